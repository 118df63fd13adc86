"""Gradients of every network, profiled passes of one depth, and the functions' times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vramscope.experiments.fits import Spread, spread_of
from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.experiments.vanishing_gradients.networks import (
    ACTIVATIONS,
    CLASSES,
    Gradients,
    Sizes,
    build_network,
    measure_gradients,
    shrink_factor,
    sizes_of,
)
from vramscope.experiments.vanishing_gradients.timing import time_functions
from vramscope.ledger.summary import PassSummary
from vramscope.recorders.threads import one_thread
from vramscope.workloads.workload import Workload

OTHERS_IN_MEMORY: Mapping[str, Callable[[], nn.Module]] = {"GELU": nn.GELU}
"""Profiled beside the three: its derivative needs its input, theirs need only their output."""
_FEWEST_TO_FIT = 3


@dataclass(frozen=True)
class Measured:
    """Gradients by activation function and depth, one entry per seed; profiled passes; seconds per call."""

    sizes: Sizes
    gradients: Mapping[str, Mapping[int, tuple[Gradients, ...]]]
    profiles: Mapping[str, Profiled]
    seconds: Mapping[str, float]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with every activation function."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}

    @property
    def fitted_depths(self) -> tuple[int, ...]:
        """Depths with enough layers to fit a line through."""
        return tuple(depth for depth in self.sizes.depths if depth >= _FEWEST_TO_FIT)

    def factors(self, activation: str, depth: int, of: Callable[[Gradients], Sequence[float]]) -> Spread:
        """By what a layer multiplies a norm on the way to the input: a fit of its logarithm per network."""
        return spread_of([shrink_factor(of(gradients)) for gradients in self.gradients[activation][depth]])


def _subject(sizes: Sizes, name: str, activation: Callable[[], nn.Module]) -> Subject:
    def build() -> Workload:
        inputs = torch.randn(sizes.batch, sizes.width)
        network = build_network(sizes, sizes.profiled_depth, activation)
        return Workload(network, inputs, functional.cross_entropy, torch.arange(sizes.batch) % CLASSES)

    return Subject(f"{sizes.profiled_depth} {name} layers", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Gradients of every network, a profiled pass of one depth, and the time of the functions alone."""
    sizes = sizes_of(settings)
    gradients: dict[str, dict[int, tuple[Gradients, ...]]] = {}
    for name, activation in ACTIVATIONS.items():
        announce(f"vanishing-gradients: {name}, up to {max(sizes.depths)} layers")
        with one_thread():
            gradients[name] = {
                depth: tuple(measure_gradients(sizes, depth, activation, seed) for seed in sizes.seeds)
                for depth in sizes.depths
            }
    profiles = {}
    for name, activation in {**ACTIVATIONS, **OTHERS_IN_MEMORY}.items():
        announce(f"vanishing-gradients: memory with {name}")
        profiles[name] = profile_training(_subject(sizes, name, activation), settings)
    announce("vanishing-gradients: time of the functions")
    return Measured(sizes, gradients, profiles, time_functions(settings))
