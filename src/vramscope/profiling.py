"""The Python API: record what happens inside a ``with`` block, and ask the ledger."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
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
from vramscope.recorders.devices import recorded_device
from vramscope.recorders.labels import (
    Label,
    label_gradients,
    label_model,
    label_tensor,
    nested_tensors,
)
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.collection import pass_name
from vramscope.recording.file import write_recording
from vramscope.recording.recording import MarkKind, Recording
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
        self._model = model
        self._optimizers = optimizers
        self._entered = False
        self._inputs = inputs
        self._recorder = ProfilerRecorder(recorded_device(device, "device="), history=True)
        self._recording: Recording | None = None
        self._ledger: Ledger | None = None

    def __enter__(self) -> "Profile":
        """Begin.

        Raises:
            UnsupportedError: another profiler is running.
            UsageError: it was used before.
        """
        if self._entered:
            raise UsageError("a profile records one block: call vramscope.profile(…) again for another one")
        self._entered = True
        self._recorder.start(seeds=self._live_labels())
        try:
            if self._model is not None:
                self._recorder.watch(self._model)
            for optimizer in self._optimizers:
                self._recorder.watch_optimizer(optimizer)
        except BaseException:
            self._recorder.abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; after an exception what was recorded until then is kept."""
        memory_ran_out = error is not None and self._recorder.failed(error)
        try:
            name = type(self._model).__name__ if self._model is not None else ""
            self._recording = self._recorder.finish({"name": name, "target": "", "device": str(self._recorder.device)})
        finally:
            self._recorder.abandon()
            self._model = self._inputs = None
            self._optimizers = ()
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
            UsageError: on entry, where the index is no whole number from 0 on.
        """
        return self._recorder.step(index)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A context for ``forward``, ``backward`` or ``optimizer``, where finding them by themselves does not do."""
        return self._recorder.phase(name)

    def watch(self, model: nn.Module) -> None:
        """Take note of a further model, older than the block or built inside it."""
        self._recorder.watch(model)

    def mark_inputs(self, tensors: Any) -> None:
        """Say that the tensors of a nest are inputs of the workload."""
        self._recorder.mark_inputs(tensors)

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
            UsageError: the block has not ended, or ``top`` is less than 1.
            OSError: the file takes no more.
        """
        if top < 1:
            raise UsageError(f"print_report(top={top}): give at least 1")
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

    def _live_labels(self) -> Iterator[Label]:
        if self._model is not None:
            yield from label_model(self._model)
            yield from label_gradients(self._model.named_parameters())
        names = {id(parameter): name for name, parameter in self._named_parameters()}
        yield from self._recorder.optimizer_names.label(self._optimizers, names)
        for name, tensor in nested_tensors(self._inputs):
            yield from label_tensor(MarkKind.INPUT, name, tensor)

    def _named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self._model.named_parameters() if self._model is not None else ()


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
        inputs: any nest of tensors that are the workload's own.
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
        raise UsageError(f"profile(optimizer=…) takes optimizers of torch.optim, not {type(wrong).__name__}")
    return given
