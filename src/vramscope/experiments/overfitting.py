"""How can overfitting be cured? A network that memorises a small data set, and what each remedy does to its gap."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import Spread, spread_of
from vramscope.experiments.frame import Announce, Experiment, Settings, one_thread
from vramscope.experiments.profiled import Profiled, Subject, profile_training, stack_of
from vramscope.findings import Claim, Origin, Panel, PanelKind, Picture, Series
from vramscope.ledger.summary import PassSummary
from vramscope.units import format_size
from vramscope.workloads.workload import Workload

BASELINE = "baseline"
SEEDS = 5
_FEATURES, _FLOAT_BYTES = 10, 4
_TEST_SAMPLES = 1000
_FLIPPED = 0.1
"""Share of wrong classes in the data: what a network can only learn by heart."""
_DROPOUT, _JITTER, _WEIGHT_DECAY = 0.5, 0.7, 0.3
_CHECKED_EVERY = 5


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the baseline's.

    Attributes:
        claim: what it is said to do.
        more_data: times the baseline's samples.
        jitter: standard deviation of the noise added to every input anew: augmentation.
        dropout: share of hidden units that are left out in each step.
        width_divisor: times fewer hidden units.
        weight_decay: of AdamW.
        stops_early: keeps the weights that were best on samples held back from training.
    """

    claim: str = ""
    more_data: int = 1
    jitter: float = 0.0
    dropout: float = 0.0
    width_divisor: int = 1
    weight_decay: float = 0.0
    stops_early: bool = False


RECIPES: Mapping[str, Recipe] = {
    BASELINE: Recipe(),
    "more data": Recipe("More data cures overfitting", more_data=8),
    "augmentation": Recipe("More data made by augmentation cures overfitting", jitter=_JITTER),
    "dropout": Recipe("Dropout cures overfitting", dropout=_DROPOUT),
    "smaller model": Recipe("A simpler model cures overfitting", width_divisor=16),
    "weight decay": Recipe("Weight decay cures overfitting", weight_decay=_WEIGHT_DECAY),
    "early stopping": Recipe("Early stopping cures overfitting", stops_early=True),
}


@dataclass(frozen=True)
class Sizes:
    """Training samples, hidden features per layer, and steps."""

    samples: int
    width: int
    steps: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """Of one trained network: losses in nats and accuracies on the data it was fitted to and on new data."""

    train_loss: float
    test_loss: float
    train_accuracy: float
    test_accuracy: float

    @property
    def gap(self) -> float:
        """By how much the loss on new data is larger, in nats."""
        return self.test_loss - self.train_loss


@dataclass(frozen=True)
class Measured:
    """By recipe: an outcome per seed, and a profiled training pass."""

    sizes: Sizes
    outcomes: Mapping[str, tuple[Outcome, ...]]
    profiles: Mapping[str, Profiled] = field(default_factory=dict)

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass of the recipes whose memory differs."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}

    def gaps(self, recipe: str) -> Spread:
        """The gap over seeds."""
        return spread_of([outcome.gap for outcome in self.outcomes[recipe]])


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    seeds = settings.seeds(SEEDS)
    return Sizes(samples=60, width=settings.choose(64, 128), steps=settings.choose(100, 300), seeds=seeds)


def draw_data(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points ``[samples, features]`` and their class by the first three features; some classes are wrong."""
    points = torch.randn(samples, _FEATURES, generator=generator)
    classes = points[:, 0] + points[:, 1] * points[:, 2] > 0
    flipped = torch.rand(samples, generator=generator) < _FLIPPED
    return points, (classes ^ flipped).long()


def build_network(sizes: Sizes, recipe: Recipe) -> nn.Sequential:
    """Two hidden layers with ReLU, and dropout after each where the recipe has it."""
    width = max(sizes.width // recipe.width_divisor, 2)
    layers: list[nn.Module] = []
    for before in (_FEATURES, width):
        layers += [nn.Linear(before, width), nn.ReLU()]
        layers += [nn.Dropout(recipe.dropout)] if recipe.dropout else []
    return nn.Sequential(*layers, nn.Linear(width, 2))


def train(sizes: Sizes, recipe: Recipe, seed: int) -> Outcome:
    """Train on a small data set, and compare with new data; the same data for a seed whatever the recipe."""
    generator = torch.Generator().manual_seed(seed)
    test = draw_data(_TEST_SAMPLES, generator)
    points, classes = draw_data(sizes.samples * recipe.more_data, generator)
    held_back = len(points) // 4 if recipe.stops_early else 0
    fitted, validation = (points[held_back:], classes[held_back:]), (points[:held_back], classes[:held_back])
    torch.manual_seed(seed)
    network = _fit(build_network(sizes, recipe), recipe, sizes.steps, fitted, validation)
    return Outcome(*_evaluate(network, fitted, test))


def _fit(
    network: nn.Sequential,
    recipe: Recipe,
    steps: int,
    data: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
) -> nn.Sequential:
    """Full-batch AdamW; the network as it ended, or as it was best on the validation data where there is any."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=recipe.weight_decay)
    best, best_loss = network, float("inf")
    for step in range(steps):
        _step(network, optimizer, data, recipe.jitter)
        if recipe.stops_early and step % _CHECKED_EVERY == 0:
            loss, _ = _score(network, validation)
            best, best_loss = (copy.deepcopy(network), loss) if loss < best_loss else (best, best_loss)
    return best


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, Tensor], jitter: float) -> None:
    points, classes = data
    network.train()
    optimizer.zero_grad()
    noisy = points + jitter * torch.randn_like(points) if jitter else points
    functional.cross_entropy(network(noisy), classes).backward()
    optimizer.step()


def _evaluate(
    network: nn.Module, fitted: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> tuple[float, float, float, float]:
    train_loss, train_accuracy = _score(network, fitted)
    test_loss, test_accuracy = _score(network, test)
    return train_loss, test_loss, train_accuracy, test_accuracy


@torch.no_grad()
def _score(network: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Loss and accuracy, without dropout."""
    network.eval()
    points, classes = data
    logits = network(points)
    accuracy = (logits.argmax(dim=1) == classes).float().mean()
    return float(functional.cross_entropy(logits, classes)), float(accuracy)


def _subject(sizes: Sizes, name: str) -> Subject:
    recipe = RECIPES[name]

    def build() -> Workload:
        points, classes = draw_data(sizes.samples * recipe.more_data, torch.Generator().manual_seed(0))
        return Workload(build_network(sizes, recipe), points, functional.cross_entropy, classes)

    return Subject(name, build)


_PROFILED = (BASELINE, "more data", "dropout", "smaller model")


def measure(settings: Settings, announce: Announce) -> Measured:
    """Train with every recipe from every seed, and profile those whose step is different."""
    sizes = sizes_of(settings)
    outcomes = {}
    for name, recipe in RECIPES.items():
        announce(f"overfitting: {name}, {SEEDS} seeds")
        with one_thread():
            outcomes[name] = tuple(train(sizes, recipe, seed) for seed in sizes.seeds)
    announce("overfitting: memory")
    profiles = {name: profile_training(_subject(sizes, name), settings, "adamw") for name in _PROFILED}
    return Measured(sizes, outcomes, profiles)


def judge_memorising(measured: Measured) -> Claim:
    """That there is something to cure."""
    found = measured.outcomes[BASELINE]
    gap = measured.gaps(BASELINE)
    return Claim(
        "A large network learns a small data set by heart: perfect on what it has seen, worse on what it has not",
        {
            "every seed is perfect on its training data": all(outcome.train_accuracy == 1 for outcome in found),
            "every seed is worse on new data": all(outcome.test_accuracy < outcome.train_accuracy for outcome in found),
        },
        f"accuracy {_mean(found, 'train_accuracy'):.0%} in training, {_mean(found, 'test_accuracy'):.0%} on new data; "
        f"gap {gap.mean:.2f} ± {gap.deviation:.2f} nats",
        _evidence(measured, BASELINE),
        Origin.CONTROL,
    )


def remedy_rule(name: str) -> Callable[[Measured], Claim]:
    """The rule that judges one remedy."""
    return lambda measured: judge_remedy(measured, name)


def judge_remedy(measured: Measured, name: str, claim: str = "") -> Claim:
    """Whether a remedy narrows the gap in every seed, and is better on new data by more than its standard error."""
    before, after = measured.outcomes[BASELINE], measured.outcomes[name]
    pairs = list(zip(before, after, strict=True))
    old, new = measured.gaps(BASELINE), measured.gaps(name)
    gain = spread_of([b.test_accuracy - a.test_accuracy for a, b in pairs])
    return Claim(
        claim or RECIPES[name].claim,
        {
            "the mean gap is smaller": new.mean < old.mean,
            "the gap is smaller for every seed": all(b.gap < a.gap for a, b in pairs),
            "accuracy on new data is higher, beyond its spread": gain.mean > gain.deviation / math.sqrt(len(pairs)),
        },
        f"gap {new.mean:.2f} ± {new.deviation:.2f} nats instead of {old.mean:.2f} ± {old.deviation:.2f}; accuracy on "
        f"new data {_mean(after, 'test_accuracy'):.1%} instead of {_mean(before, 'test_accuracy'):.1%}",
        {**_evidence(measured, name), "accuracy_gain": asdict(gain)},
    )


def judge_memory(measured: Measured) -> Claim:
    """What the two network remedies do to a training step's memory."""
    retained = {name: profile.retained_bytes for name, profile in measured.profiles.items()}
    peaks = {name: profile.summary.peak.bytes for name, profile in measured.profiles.items()}
    map_bytes = measured.sizes.samples * measured.sizes.width * _FLOAT_BYTES
    masks = (retained["dropout"] - retained[BASELINE]) / map_bytes
    return Claim(
        "Dropout costs memory, for its masks and outputs; a smaller model saves it",
        {
            "dropout retains more": retained["dropout"] > retained[BASELINE],
            "dropout's peak is higher": peaks["dropout"] > peaks[BASELINE],
            "the smaller model's peak is lower": peaks["smaller model"] < peaks[BASELINE],
        },
        f"two dropout layers retain {masks:.2f} more feature maps; peaks: "
        + ", ".join(f"{name} {format_size(size)}" for name, size in peaks.items()),
        {"retained_bytes": retained, "training_peak_bytes": peaks, "feature_map_bytes": map_bytes},
        Origin.CONTROL,
    )


def _mean(outcomes: tuple[Outcome, ...], figure: str) -> float:
    return spread_of([getattr(outcome, figure) for outcome in outcomes]).mean


def _evidence(measured: Measured, name: str) -> dict[str, object]:
    outcomes = measured.outcomes[name]
    return {
        "gap_nats": asdict(measured.gaps(name)),
        "gap_nats_by_seed": [outcome.gap for outcome in outcomes],
        "train_loss_by_seed": [outcome.train_loss for outcome in outcomes],
        "test_loss_by_seed": [outcome.test_loss for outcome in outcomes],
        "test_accuracy": asdict(spread_of([outcome.test_accuracy for outcome in outcomes])),
        "train_accuracy": asdict(spread_of([outcome.train_accuracy for outcome in outcomes])),
        "seeds": measured.sizes.seeds,
    }


def _answer(measured: Measured) -> str:
    gaps = {name: measured.gaps(name).mean for name in RECIPES}
    best = min(gaps, key=lambda name: gaps[name])
    narrower = [name for name in gaps if name != BASELINE and gaps[name] < gaps[BASELINE]]
    return (
        f"The gap of {gaps[BASELINE]:.2f} nats between new and known data narrows with {', '.join(narrower)}; "
        f"most with {best} ({gaps[best]:.2f})."
    )


def _draw(measured: Measured) -> Picture:
    gaps = {name: measured.gaps(name).mean for name in RECIPES}
    narrower = sum(gap < gaps[BASELINE] for gap in gaps.values())
    headline = f"{narrower} of {len(RECIPES) - 1} remedies narrow the gap between known and new data"
    return Picture(headline, (_gaps(measured), _accuracies(measured), _memory(measured)))


def _gaps(measured: Measured) -> Panel:
    spreads = [measured.gaps(name) for name in RECIPES]
    low, high = tuple(spread.lowest for spread in spreads), tuple(spread.highest for spread in spreads)
    series = (Series("mean and extremes", tuple(spread.mean for spread in spreads), (), low, high),)
    title = f"Test loss - train loss, {SEEDS} seeds"
    return Panel(title, "recipe", "gap (nats)", series, PanelKind.BARS, tuple(RECIPES))


def _accuracies(measured: Measured) -> Panel:
    series = []
    for label, figure in (("known data", "train_accuracy"), ("new data", "test_accuracy")):
        spreads = [spread_of([100 * getattr(o, figure) for o in measured.outcomes[name]]) for name in RECIPES]
        low, high = tuple(spread.lowest for spread in spreads), tuple(spread.highest for spread in spreads)
        series.append(Series(label, tuple(spread.mean for spread in spreads), (), low, high))
    return Panel("Accuracy", "recipe", "accuracy (%)", tuple(series), PanelKind.BARS, tuple(RECIPES))


def _memory(measured: Measured) -> Panel:
    peaks = [profile.summary.peak.by_category for profile in measured.profiles.values()]
    series = stack_of(peaks, [1024.0] * len(peaks))
    names = tuple(measured.profiles)
    return Panel("Peak of a training step", "recipe", "allocated memory (KiB)", series, PanelKind.STACK, names)


EXPERIMENT = Experiment(
    name="overfitting",
    question="How can overfitting be cured?",
    measure=measure,
    rules=(judge_memorising, *(remedy_rule(name) for name in RECIPES if name != BASELINE), judge_memory),
    answer=_answer,
    draw=_draw,
    count=lambda _: len(RECIPES) + 1,
)
