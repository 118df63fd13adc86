"""Profiling one pass of an architecture and checking it to the byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, SupportsIndex

import numpy as np
from torch import nn
from torch.optim import Optimizer

from benchmarks.live import walk_live
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

LiveBytes = dict[Category, int]


class Witness(ProfilerRecorder):
    """The recorder as it is, which besides notes after every step what the live objects hold."""

    def __init__(self) -> None:
        super().__init__()
        self._models: list[nn.Module] = []
        self._optimizers: dict[int, Optimizer] = {}
        self.walks: list[LiveBytes] = []

    def watch(self, model: nn.Module, root: str | None = None) -> None:
        """Watch a model, and look at it after every step."""
        super().watch(model, root)
        self._models.append(model)

    def _after_optimizer(self, optimizer: Optimizer) -> None:
        super()._after_optimizer(optimizer)
        self._optimizers[id(optimizer)] = optimizer

    @contextmanager
    def step(self, index: SupportsIndex) -> Iterator[None]:
        """A step, and the walk after it."""
        with super().step(index):
            yield
        self.walks.append(walk_live(nn.ModuleList(self._models), self._optimizers.values()))


@dataclass(frozen=True)
class Check:
    """What one pass came to; sizes in bytes.

    Attributes:
        peak_bytes: of the steady steps, by the allocator's own total.
        events: of the allocator, in the whole pass.
        disagreement_bytes: the most by which the ledger and the allocator's total differ at any event, on any device.
        inexact_events: events after which the categories do not add up to the allocator's total.
        unattributed_bytes: the most that had no owner at once, at any event of the steps, the cold one included.
        mislabelled_bytes: the most by which parameters, buffers, gradients or optimizer state differ, after any step,
            from what a walk of the live objects finds.
    """

    peak_bytes: int
    events: int
    disagreement_bytes: int
    inexact_events: int
    unattributed_bytes: int
    mislabelled_bytes: int

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to explain."""
        return not any(getattr(self, name) for name in FAULTS)


FAULTS = tuple(item.name for item in fields(Check) if item.name not in ("peak_bytes", "events"))
"""The figures that are 0 where all is well."""


def record(target: str, options: WorkloadOptions, name: PassName) -> tuple[Ledger, list[LiveBytes]]:
    """One canonical pass, built and stepped under the recorder: its ledger, and the live objects after every step."""
    witness = Witness()
    recording: Any = run_pass(resolve(target), options, name, witness, lambda text: None)
    return Ledger(recording), witness.walks


def check(ledger: Ledger, walks: list[LiveBytes]) -> Check:
    """Compare a ledger with the allocator's own total at every event, and with the live objects after every step."""
    steps = ledger.steps
    _, levels = ledger.timeline()
    devices = range(len(ledger.recording.devices))
    differences = [_difference(ledger, step.last - 1, walk) for step, walk in zip(steps, walks, strict=True)]
    return Check(
        peak_bytes=ledger.peak(Window.of_steps(steps[1:])).bytes,
        events=len(ledger),
        disagreement_bytes=max(ledger.max_disagreement_bytes(device) for device in devices),
        inexact_events=int(np.count_nonzero(levels.sum(axis=1) != ledger.allocator_totals())),
        unattributed_bytes=ledger.category_peak(Category.UNATTRIBUTED, Window.of_steps(steps)).bytes,
        mislabelled_bytes=max(differences),
    )


def _difference(ledger: Ledger, event: int, walk: LiveBytes) -> int:
    found = ledger.composition(event)
    return max(abs(found[category] - size) for category, size in walk.items())
