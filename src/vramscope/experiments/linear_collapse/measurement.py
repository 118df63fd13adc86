"""Every depth compared with one layer, in function and in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vramscope.experiments.fits import Line, fit_line
from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.linear_collapse.networks import (
    Misfit,
    best_layer_misfit,
    build_network,
    collapse_error,
    sizes_of,
)
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.experiments.stacks import StackSizes
from vramscope.ledger.summary import PassSummary
from vramscope.workloads.workload import Workload

LINEAR = "no activation"
FITTED: Mapping[str, Callable[[], nn.Module] | None] = {LINEAR: None, "ReLU": nn.ReLU, "tanh": nn.Tanh}
"""What stands between the layers of the networks to which a single layer is fitted."""


@dataclass(frozen=True)
class Measured:
    """By depth: the largest relative error over seeds, misfits of the best single layer, and profiled passes."""

    sizes: StackSizes
    collapse_errors: Mapping[int, float]
    misfits: Mapping[str, Mapping[int, tuple[Misfit, ...]]]
    profiles: Mapping[int, Profiled]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass of every depth."""
        return {f"training, {depth} layers": profile.summary for depth, profile in self.profiles.items()}

    @property
    def retained(self) -> Line:
        """Retained bytes against depth."""
        return fit_line(list(self.profiles), [profile.retained_bytes for profile in self.profiles.values()])

    def least_misfit(self, name: str) -> dict[int, float]:
        """By depth the misfit of the network that is nearest to a single layer, as a share of its variation."""
        return {depth: min(m.of_variation for m in found) for depth, found in self.misfits[name].items()}


def _subject(sizes: StackSizes, layers: int) -> Subject:
    def build() -> Workload:
        inputs = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
        return Workload(build_network(sizes.width, layers), inputs, functional.mse_loss, torch.zeros_like(inputs))

    return Subject(f"{layers} linear layers", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Compare every depth with one layer, in function and in memory."""
    sizes = sizes_of(settings)
    errors: dict[int, float] = {}
    misfits: dict[str, dict[int, tuple[Misfit, ...]]] = {name: {} for name in FITTED}
    profiles: dict[int, Profiled] = {}
    for depth in sizes.depths:
        announce(f"linear-collapse: {depth} layers")
        errors[depth] = max(collapse_error(sizes, depth, seed) for seed in sizes.seeds)
        profiles[depth] = profile_training(_subject(sizes, depth), settings)
        for name, activation in FITTED.items() if depth > 1 else ():
            misfits[name][depth] = tuple(best_layer_misfit(sizes, depth, seed, activation) for seed in sizes.seeds)
    return Measured(sizes, errors, misfits, profiles)
