"""A draft: what a target's source hands over, before dtype, device and optimizer are settled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from vramscope.errors import UsageError
from vramscope.workloads.inputs import draw
from vramscope.workloads.workload import CallArguments, Loss, WorkloadOptions


@dataclass(frozen=True, eq=False)
class Draft:
    """A model and what it is called with, as its source made them.

    Attributes:
        model: in any dtype, on any device.
        inputs: arguments of the model in both passes.
        labels: keyword arguments of the model in training only.
        targets: the loss's second argument.
        loss: called as ``loss(outputs, targets)``.
        optimizer: the user's own factory, or None.
        batch: samples in one step, None where not known.
        seq: tokens per sample, None where there are none.
        notes: remarks for the user about both passes.
        training_notes: remarks about training alone.
    """

    model: nn.Module
    inputs: CallArguments
    loss: Loss
    labels: Mapping[str, Any] = field(default_factory=dict)
    targets: Any = None
    optimizer: Callable[[nn.Module], Optimizer] | None = None
    batch: int | None = None
    seq: int | None = None
    notes: tuple[str, ...] = ()
    training_notes: tuple[str, ...] = ()


class Source(Protocol):
    """Where a target's model comes from: the built-ins, a user's factory, a model library."""

    @property
    def name(self) -> str:
        """Short, for tables."""
        ...

    def draft(self, options: WorkloadOptions) -> Draft:
        """Build the model and its inputs; the caller has seeded torch."""
        ...


def refuse(name: str, options: WorkloadOptions, *refused: str) -> None:
    """Refuse options that would silently do nothing for this target.

    Raises:
        UsageError: one of the options named in ``refused`` was given.
    """
    for option in refused:
        if getattr(options, option):
            flag = "input" if option == "inputs" else option
            raise UsageError(f"--{flag} does nothing for {name}: leave it out")


def draw_for(options: WorkloadOptions, *specs: Any) -> dict[str, Any]:
    """The tensors of ``specs`` with the seed, device and floating dtype of ``options``."""
    return draw(specs, options.seed, options.torch_device, options.floating_dtype)
