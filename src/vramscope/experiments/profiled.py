"""Profiling an experiment's workloads: the canonical step under the ordinary recorder, read by the ordinary ledger."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from vramscope.experiments.frame import Settings
from vramscope.findings import Panel, PanelKind, Series
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Composition, Ledger
from vramscope.ledger.summary import PassSummary, steady_window, summarize_ledger
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.workloads.draft import Draft
from vramscope.workloads.losses import default_loss
from vramscope.workloads.passes import PassName, PassOutOfMemoryError, run_pass
from vramscope.workloads.targets import Target
from vramscope.workloads.workload import Workload, WorkloadOptions

STEP_COUNTER = "step"
"""What torch's optimizers call the tensor in which they count a parameter's steps."""
_STEADY_STEPS = 1


@dataclass(frozen=True)
class Subject:
    """A workload of an experiment as a source of targets, as built-in models and users' factories are.

    Attributes:
        name: short, for tables.
        build: makes the model and its inputs; torch has been seeded.
    """

    name: str
    build: Callable[[], Workload]

    def draft(self, options: WorkloadOptions) -> Draft:
        """What was built, ready to be placed on the device."""
        made = self.build()
        return Draft(made.model, made.call_arguments(), made.loss or default_loss, targets=made.targets)


@dataclass(frozen=True)
class Profiled:
    """A pass that was recorded: its ledger, and the figures that every view shows."""

    ledger: Ledger
    summary: PassSummary

    @property
    def parameter_bytes(self) -> int:
        """Requested bytes of the parameters at the peak."""
        return self.summary.peak.requested_by_category[Category.PARAMETERS]

    @property
    def retained_bytes(self) -> int:
        """Activations alive when backward begins."""
        return self.summary.activations.retained_bytes

    @property
    def retained_bytes_at_peak(self) -> int:
        """The activations, among those alive when backward begins, that are still alive at the steady step's peak."""
        ledger, window = self.ledger, steady_window(self.ledger)
        top = ledger.peak(window)
        alive = ledger.retained & ledger.alive_at(top) & (ledger.blocks.device == 0)
        return int(ledger.blocks.size[alive].sum())

    def most_bytes(self, category: Category) -> int:
        """The most that a category ever held in the steady step."""
        window = steady_window(self.ledger)
        return self.ledger.category_peak(category, window).bytes

    def requested_before(self, phase: str) -> Composition:
        """Requested bytes by category when a phase of the steady step begins.

        Raises:
            ValueError: the step has no such phase.
        """
        periods = self.ledger.periods.named(phase, steady_window(self.ledger).steps)
        if not periods:
            raise ValueError(f"the step has no phase {phase!r}")
        begins = self.ledger.beginning(periods[0])
        return self.ledger.composition_at(begins, requested=True)

    def held_after_forward(self) -> int:
        """Requested bytes of activations when the steady step's forward phase ends."""
        forward = self.ledger.periods.named("forward", steady_window(self.ledger).steps)[0]
        return self.ledger.composition(forward.last - 1, requested=True)[Category.ACTIVATIONS]

    def state_bytes(self) -> dict[str, int]:
        """Requested bytes of the optimizer's state at the end, by the state's name."""
        ledger, window = self.ledger, steady_window(self.ledger)
        alive = ledger.blocks.alive_after(window.last - 1) & ledger.is_category(Category.OPTIMIZER_STATE)
        sums: dict[str, int] = {}
        for block in np.flatnonzero(alive).tolist():
            name = ledger.recording.strings[int(ledger.recording.marks.name[ledger.mark[block]])]
            sums[name] = sums.get(name, 0) + int(ledger.blocks.requested[block])
        return dict(sorted(sums.items()))


def moment_bytes(state: Mapping[str, int]) -> int:
    """Of an optimizer's state by name, what is kept for every weight: all but the step counters."""
    return sum(size for name, size in state.items() if name != STEP_COUNTER)


def profile_training(subject: Subject, settings: Settings, optimizer: str = "sgd") -> Profiled:
    """One cold and one steady canonical training step."""
    return _profile(subject, PassName.TRAINING, settings, optimizer=optimizer)


def profile_inference(subject: Subject, settings: Settings) -> Profiled:
    """One cold and one steady canonical inference step."""
    return _profile(subject, PassName.INFERENCE, settings)


def profile_forward(subject: Subject, settings: Settings, *, gradients: bool) -> Profiled:
    """A forward pass in ``train()`` mode without the backward pass after it, with and without gradients enabled.

    What is alive when the forward phase ends is what it would have kept.
    """
    recorder = ProfilerRecorder(torch.device(settings.device))
    options = WorkloadOptions(device=settings.device, seed=settings.seed)
    gc.collect()
    recorder.start()
    try:
        prepared = Target(subject.name, subject).prepare(options)
        recorder.watch(prepared.model)
        recorder.mark_inputs(dict(prepared.input_tensors()))
        prepared.model.train()
        for index in range(_STEADY_STEPS + 1):
            with recorder.step(index):
                _forward(prepared.model, prepared.training_inputs[0], gradients, recorder)
        return _read(Ledger(recorder.finish({"name": subject.name, "device": settings.device})))
    finally:
        recorder.abandon()


def stack_of(compositions: Sequence[Composition], unit_bytes: Sequence[float]) -> tuple[Series, ...]:
    """Compositions as the parts of stacked bars, each in a unit of its own; whatever is there is shown."""
    pairs = list(zip(compositions, unit_bytes, strict=True))
    return tuple(Series(category.value, tuple(part[category] / unit for part, unit in pairs)) for category in Category)


def peaks_panel(x_label: str, profiles: Mapping[Any, Profiled]) -> Panel:
    """What training steps hold at their fullest moments by category, as bars under what the profiles are called."""
    peaks = [profile.summary.peak.by_category for profile in profiles.values()]
    series = stack_of(peaks, [1024.0] * len(peaks))
    names = tuple(map(str, profiles))
    return Panel("Peak of a training step", x_label, "allocated memory (KiB)", series, PanelKind.STACK, names)


def _forward(model: nn.Module, arguments: tuple[Any, ...], gradients: bool, recorder: ProfilerRecorder) -> None:
    with torch.set_grad_enabled(gradients):
        with recorder.phase("forward"):
            outputs = model(*arguments)
        del outputs


def _profile(subject: Subject, name: PassName, settings: Settings, **options: Any) -> Profiled:
    chosen = WorkloadOptions(device=settings.device, seed=settings.seed, steps=_STEADY_STEPS, **options)
    gc.collect()  # what earlier passes left to the collector must not be freed during this one
    recorder = ProfilerRecorder(chosen.torch_device)
    try:
        return _read(Ledger(run_pass(Target(subject.name, subject), chosen, name, recorder, lambda _: None)))
    except PassOutOfMemoryError as exhausted:  # an experiment needs whole passes: what led there is of no use to it
        raise exhausted.error from exhausted


def _read(ledger: Ledger) -> Profiled:
    return Profiled(ledger, summarize_ledger(ledger))
