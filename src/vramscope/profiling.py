"""The Python API: record what happens inside a ``with`` block, and ask the ledger."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import current_thread
from types import TracebackType
from typing import Any, SupportsIndex, TextIO

import torch
from torch import nn
from torch.optim import Optimizer

from vramscope.errors import UsageError
from vramscope.ledger.autopsy import autopsy
from vramscope.ledger.comparison import compare_ledgers
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import PassSummary, summarize_ledger
from vramscope.recorders.batches import inputs_in
from vramscope.recorders.devices import recorded_device
from vramscope.recorders.labels import (
    Label,
    label_gradients,
    label_model,
    label_tensor,
)
from vramscope.recorders.optimizer_names import OptimizerNames
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.seeds import unknown_inputs
from vramscope.recording.collection import pass_name
from vramscope.recording.file import write_recording
from vramscope.recording.recording import Recording
from vramscope.views.autopsy import autopsy_text


class Profile:
    """A recording in progress, and its ledger afterwards.

    Memory that is older than the block is known as far as the model, the optimizer and the inputs hold it. Forward
    passes, backward passes and optimizer steps are found by themselves; `step` groups them, and `phase` overrides what
    is found.
    """

    def __init__(
        self, model: nn.Module | None, optimizers: Sequence[Optimizer], inputs: Any, device: str | torch.device
    ) -> None:
        """Prepared by `profile`; recording begins on entry."""
        self._given: tuple[nn.Module | None, Sequence[Optimizer], Any] | None = model, optimizers, inputs
        self._name = type(model).__name__ if model is not None else ""
        self._thread = current_thread()
        self._is_running = False
        self._recorder = ProfilerRecorder(recorded_device(device, "device="), history=True)
        self._recording: Recording | None = None
        self._ledger: Ledger | None = None

    def __enter__(self) -> "Profile":
        """Begin.

        Raises:
            UnsupportedError: another profiler is running.
            UsageError: it was used before.
        """
        if self._given is None:
            raise UsageError("a profile records one block: call vramscope.profile(…) again for another one")
        (model, optimizers, inputs), self._given = self._given, None  # what the program drops is to die in its time
        self._thread = current_thread()
        self._recorder.start(seeds=_live_labels(model, optimizers, inputs, self._recorder.optimizer_names))
        try:
            if model is not None:
                self._recorder.watch(model)
            for optimizer in optimizers:
                self._recorder.watch_optimizer(optimizer)
        except BaseException:
            self._recorder.abandon()
            raise
        self._is_running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; after an exception what was recorded until then is kept.

        Raises:
            UsageError: the block has not begun, or began on another thread, which still runs and can end it.
            RecordingError: another profiler, or the end of that thread, took the events away.
        """
        recorder = self._running("__exit__()")
        if self._thread is not current_thread() and self._thread.is_alive():
            raise UsageError("a profile ends on the thread on which it began: leave the `with` block there")
        memory_ran_out = error is not None and recorder.failed(error)
        try:
            recording = recorder.finish({"name": self._name, "target": "", "device": str(recorder.device)})
            self._recording = recording.with_notes(*_remarks(recording))
        finally:
            self._is_running = False
            recorder.abandon()
        if memory_ran_out:
            sys.stderr.write(self.autopsy)

    @property
    def autopsy(self) -> str:
        """What the last allocation that found no memory met, in lines of text; empty where all were met.

        Where the block ends with the error, this is written to standard error before the error goes on.
        """
        found = autopsy(self.ledger)
        return "" if found is None else autopsy_text(found, sys.stderr.encoding or "ascii")

    def step(self, index: SupportsIndex) -> AbstractContextManager[None]:
        """A context for one step of the loop; the first one counts as the cold step, the others as steady.

        Raises:
            UsageError: outside the block; on entry, where the index is no whole number from 0 on.
        """
        return self._running("step()").step(index)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A context for ``build``, ``forward``, ``backward`` or ``optimizer``, where they are not found as they should.

        It decides in which phase memory was made. It is no evidence of what that memory is: what an optimizer written
        by hand makes for itself stays ``unattributed``.

        Raises:
            UsageError: outside the block, or no phase has this name.
        """
        return self._running("phase()").phase(name)

    def watch(self, model: nn.Module) -> None:
        """Take note of a further model, older than the block or built inside it.

        Raises:
            UsageError: outside the block, or it is no ``nn.Module``.
        """
        recorder = self._running("watch()")
        if not isinstance(model, nn.Module):
            raise UsageError(f"watch() takes an nn.Module, not {type(model).__name__}: call it for each model")
        recorder.watch(model)

    def mark_inputs(self, tensors: Any) -> None:
        """Say that the tensors of a nest, made inside the block, are inputs of the workload.

        Older ones are known where `profile` was given them as ``inputs``; a note says where some were not.

        Raises:
            UsageError: outside the block.
        """
        self._running("mark_inputs()").mark_inputs(tensors)

    def _running(self, asked: str) -> ProfilerRecorder:
        """The recorder, for what only makes sense inside the block."""
        if not self._is_running:
            when = "has not begun" if self._given is not None else "has ended"
            raise UsageError(f"profile.{asked} belongs inside the `with vramscope.profile(…)` block, which {when}")
        return self._recorder

    @property
    def has_ended(self) -> bool:
        """Whether the block has ended, so that there is something to ask."""
        return self._recording is not None

    @property
    def recording(self) -> Recording:
        """The facts.

        Raises:
            UsageError: the block has not ended.
        """
        if self._recording is None:
            raise UsageError(
                "the profile is not there yet: read it after the `with vramscope.profile(…)` block has ended"
            )
        return self._recording

    @property
    def ledger(self) -> Ledger:
        """The ledger of the recording."""
        if self._ledger is None:
            self._ledger = Ledger(self.recording)
        return self._ledger

    @property
    def summary(self) -> PassSummary:
        """The figures that every view shows."""
        return summarize_ledger(self.ledger)

    def print_report(self, *, top: int = 10, verbose: bool = False, file: TextIO | None = None) -> None:
        """Print the tables that `vramscope report` shows of the saved recording.

        Args:
            top: rows that long tables show before the rest is summed up.
            verbose: every figure in bytes, every category, and every module by itself.
            file: where to; by default standard output.

        Raises:
            UsageError: the block has not ended, or ``top`` is no whole number from 1 on.
            OSError: the file takes no more.
        """
        if not isinstance(top, int) or top < 1:
            raise UsageError(f"print_report(top={top!r}): give a whole number from 1 on")
        from vramscope.views.console import result_console  # rich takes long to load, and recording needs none
        from vramscope.views.terminal import print_comparison

        comparison = compare_ledgers({pass_name(self.recording): self.ledger})
        print_comparison(comparison, result_console(file=file), top=top, verbose=verbose)

    def save(self, path: str | Path) -> None:
        """Write the recording to a ``.vram`` file.

        Raises:
            OutputError: it cannot be written.
        """
        write_recording(self.recording, Path(path))


def _live_labels(
    model: nn.Module | None, optimizers: Sequence[Optimizer], inputs: Any, optimizer_names: OptimizerNames
) -> Iterator[Label]:
    """Labels for what is older than the block."""
    named = list(model.named_parameters()) if model is not None else []
    if model is not None:
        yield from label_model(model)
        yield from label_gradients(named)
    yield from optimizer_names.label(optimizers, {id(parameter): name for name, parameter in named})
    for kind, name, tensor in inputs_in(inputs):
        yield from label_tensor(kind, name, tensor)


def _remarks(recording: Recording) -> list[str]:
    count = unknown_inputs(recording)
    if not count:
        return []
    return [
        f"{count} or more of the tensors marked as inputs are not counted: they are older than the block, or another "
        "thread or library made them; give older ones to profile(inputs=…)"
    ]


def profile(
    model: nn.Module | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    inputs: Any = None,
    device: str | torch.device | None = None,
) -> Profile:
    """Record every allocation of the ``with`` block that follows.

    Example:
        ::

            with vramscope.profile(model, optimizer, inputs=batch) as profile:
                loss = model(batch).sum()
                loss.backward()
                optimizer.step()
            profile.print_report()

    Args:
        model: its parameters, buffers, gradients and modules are named; several models in a ``ModuleList``.
        optimizer: one or several; their state from before the block is named. Steps are noticed without it.
        inputs: any nest of tensors that are the workload's own, or of objects that keep some as attributes.
        device: whose allocator to record; by default that of the model's first parameter.

    Raises:
        UsageError: something else than a model or optimizers.
        UnsupportedError: a device that cannot be recorded.

    Returns:
        a context manager with ``print_report``, ``summary``, ``ledger``, ``recording`` and ``save``.
    """
    optimizers = _all_of(optimizer)
    if model is not None and not isinstance(model, nn.Module):
        raise UsageError(f"profile(model=…) takes an nn.Module, not {type(model).__name__}")
    if device is None:
        first = next(model.parameters(), None) if model is not None else None
        device = first.device if first is not None else "cpu"
    return Profile(model, optimizers, inputs, device)


def _all_of(optimizer: Optimizer | Iterable[Optimizer] | None) -> list[Optimizer]:
    """One optimizer or several, as a list."""
    if optimizer is None or isinstance(optimizer, Optimizer):
        return [] if optimizer is None else [optimizer]
    given = list(optimizer) if isinstance(optimizer, Iterable) else [optimizer]
    wrong = next((item for item in given if not isinstance(item, Optimizer)), None)
    if wrong is not None:
        within = f"a {type(optimizer).__name__} of " if isinstance(optimizer, Iterable) else ""
        raise UsageError(f"profile(optimizer=…) takes optimizers of torch.optim, not {within}{type(wrong).__name__}")
    return given
