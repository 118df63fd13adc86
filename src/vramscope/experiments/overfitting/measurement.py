"""Training with every recipe from every seed, and a profiled step of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from vramscope.experiments.fits import Spread, spread_of
from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.overfitting.recipes import (
    BASELINE,
    RECIPES,
    SEEDS,
    Sizes,
    build_network,
    draw_data,
    sizes_of,
)
from vramscope.experiments.overfitting.training import Outcome, train
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.ledger.summary import PassSummary
from vramscope.recorders.threads import one_thread
from vramscope.workloads.workload import Workload


@dataclass(frozen=True)
class Measured:
    """By recipe: an outcome per seed, and a profiled training pass."""

    sizes: Sizes
    outcomes: Mapping[str, tuple[Outcome, ...]]
    profiles: Mapping[str, Profiled] = field(default_factory=dict)

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass of every recipe."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}

    def spread(self, recipe: str, of: Callable[[Outcome], float]) -> Spread:
        """One figure over seeds."""
        return spread_of([of(outcome) for outcome in self.outcomes[recipe]])

    def gaps(self, recipe: str) -> Spread:
        """The gap over seeds."""
        return self.spread(recipe, lambda outcome: outcome.gap)

    def narrows_every_gap(self, recipe: str) -> bool:
        """Whether the gap is smaller than the baseline's for every seed."""
        pairs = zip(self.outcomes[BASELINE], self.outcomes[recipe], strict=True)
        return all(after.gap < before.gap for before, after in pairs)

    def accuracies(self, recipe: str) -> Spread:
        """Accuracy on new data over seeds."""
        return self.spread(recipe, lambda outcome: outcome.test_accuracy)

    def change(self, recipe: str, of: Callable[[Outcome], float]) -> Spread:
        """By how much a figure is larger than the baseline's, seed by seed: the same data and first weights."""
        pairs = zip(self.outcomes[BASELINE], self.outcomes[recipe], strict=True)
        return spread_of([of(after) - of(before) for before, after in pairs])


def _subject(sizes: Sizes, name: str) -> Subject:
    recipe = RECIPES[name]

    def build() -> Workload:
        drawn = sizes.samples * recipe.more_data
        points, classes = draw_data(drawn - recipe.held_back(drawn), torch.Generator().manual_seed(0))
        return Workload(build_network(sizes, recipe), points, functional.cross_entropy, classes)

    return Subject(name, build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Train with every recipe from every seed, and profile a step of each."""
    sizes = sizes_of(settings)
    outcomes, profiles = {}, {}
    for name, recipe in RECIPES.items():
        announce(f"overfitting: {name}, {SEEDS} seeds")
        with one_thread():
            outcomes[name] = tuple(train(sizes, recipe, seed) for seed in sizes.seeds)
        profiles[name] = profile_training(_subject(sizes, name), settings, recipe.optimizer)
    return Measured(sizes, outcomes, profiles)
