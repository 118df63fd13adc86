"""The identity, the derivatives, and training with every function from the same weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import Spread, spread_of
from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.experiments.tanh_vs_sigmoid.identity import DTYPES, Identity, derivative, grid, measure_identity
from vramscope.experiments.tanh_vs_sigmoid.learning import (
    FORMS,
    LEARNING_RATES,
    Losses,
    build_network,
    draw_classes,
    epochs_until,
    mean_activation,
    train,
)
from vramscope.ledger.summary import PassSummary
from vramscope.recorders.threads import one_thread
from vramscope.workloads.workload import Workload

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {name: FORMS[name].make for name in ("tanh", "sigmoid")}


@dataclass(frozen=True)
class Measured:
    """Identities by dtype; derivatives by function; mean activations over seeds; losses by rate, function and seed."""

    seeds: tuple[int, ...]
    identities: Mapping[str, Identity]
    derivatives: Mapping[str, Tensor]
    derivative_error: float
    mean_activations: Mapping[str, Spread]
    losses: Mapping[float, Mapping[str, tuple[Losses, ...]]]
    most_epochs: int
    profiles: Mapping[str, Profiled]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with either function."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}

    def epochs(self, rate: float, name: str) -> tuple[int | None, ...]:
        """By seed the epochs to the threshold; None where it was never reached."""
        return tuple(map(epochs_until, self.losses[rate][name]))

    def epochs_or_all(self, rate: float, name: str) -> tuple[int, ...]:
        """By seed the epochs to the threshold, or all that were run where it was never reached."""
        return tuple(self.most_epochs if epoch is None else epoch for epoch in self.epochs(rate, name))


def _subject(name: str, activation: Callable[[], nn.Module]) -> Subject:
    def build() -> Workload:
        points, classes = draw_classes()
        return Workload(build_network(activation), points, functional.cross_entropy, classes)

    return Subject(f"{name} classifier", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Everything, for as many seeds as a setting has."""
    announce("tanh-vs-sigmoid: identity and derivatives")
    seeds, most = settings.seeds(5), settings.choose(150, 500)
    derivatives = {"tanh": derivative(torch.tanh, grid()), "sigmoid": derivative(torch.sigmoid, grid())}
    chained = derivatives["tanh"] - 4 * derivative(torch.sigmoid, 2 * grid())
    identities = {name: measure_identity(dtype, settings.device) for name, dtype in DTYPES.items()}
    losses = {rate: _train_all(rate, seeds, most, announce) for rate in LEARNING_RATES}
    announce("tanh-vs-sigmoid: memory")
    return Measured(
        seeds=seeds,
        identities=identities,
        derivatives=derivatives,
        derivative_error=float(chained.abs().max()),
        mean_activations={n: spread_of([mean_activation(a, seed) for seed in seeds]) for n, a in ACTIVATIONS.items()},
        losses=losses,
        most_epochs=most,
        profiles={name: profile_training(_subject(name, a), settings) for name, a in ACTIVATIONS.items()},
    )


def _train_all(rate: float, seeds: tuple[int, ...], epochs: int, announce: Announce) -> dict[str, tuple[Losses, ...]]:
    announce(f"tanh-vs-sigmoid: training with learning rate {rate}")
    with one_thread():
        return {name: tuple(train(form.make, seed, rate, epochs) for seed in seeds) for name, form in FORMS.items()}
