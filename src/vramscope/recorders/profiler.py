"""The profiler recorder: a Recording of a real run, on the CPU or a GPU, from the allocators' own events.

Method: torch's profiler reports every allocation and free, those inside kernels included. Hooks open cheap scopes
around
modules, so that an event's ancestors name its module; stamps put steps, phases and labels on the profiler's clock.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vramscope.recorders.conversion import StringTable, Tables, convert, device_row
from vramscope.recorders.environment import describe_device, describe_environment
from vramscope.recorders.hooks import BackwardHook, GradientHooks, ModuleHooks, OptimizerHooks, remove_all
from vramscope.recorders.labels import (
    Label,
    label_gradients,
    label_model,
    label_optimizer_state,
    label_tensor,
    nested_tensors,
)
from vramscope.recorders.lines import LineTracer
from vramscope.recorders.seeds import SeedWatch
from vramscope.recorders.stamps import StampKind, label, open_scope, stamp
from vramscope.recorders.window import ProfilerWindow
from vramscope.recording.recording import Counters, MarkKind, PhaseName, Recording, Source

_CPU = torch.device("cpu")


class ProfilerRecorder:
    """Records what happens between `start` and `finish` on the calling thread and the autograd threads it uses.

    Modules, gradients and optimizer states are labelled for the models that are watched. The caller may announce phases
    through `phase`; those it does not announce are found: a forward pass begins with a watched model's forward and
    lasts
    until a backward pass, an optimizer step or, without gradients, its own end.
    """

    _source = Source.PROFILER

    def __init__(self, device: torch.device = _CPU, *, lines: bool = False) -> None:
        self.device = device
        self._devices = [device] if device == _CPU else [device, _CPU]
        self._window = ProfilerWindow(use_cuda=device.type == "cuda")
        self._tracer = LineTracer() if lines else None
        self._batches: list[list[Label]] = []
        self._parameter_names: dict[int, str] = {}
        self._watched: list[nn.Module] = []
        self._seeded = SeedWatch(self._devices)
        self._phases: list[str] = []
        self._found_forward = False
        self._found_optimizer: tuple[int, CodeType] | None = None
        self._running = False
        self._hooks: list[ModuleHooks | GradientHooks | OptimizerHooks | BackwardHook] = []

    # -- the run ----------------------------------------------------------------------------------------------------

    def start(self, seeds: Iterable[Label] = ()) -> None:
        """Begin recording; ``seeds`` are the labels of live objects that are older than the recording."""
        self._seeded.watch(seeds)
        self._window.start()
        self._running = True
        try:
            self._module_hooks = ModuleHooks(self)
            self._gradient_hooks = GradientHooks(self._on_gradient)
            self._hooks = [self._module_hooks, self._gradient_hooks]
            self._hooks.append(OptimizerHooks(self._before_optimizer, self._after_optimizer))
            self._hooks.append(BackwardHook(self._around_backward))
            _bookend()
            self.mark(self._seeded.labels)
            if self._tracer is not None:
                self._tracer.start()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stop everything and keep nothing; safe to call at any time, any number of times."""
        if not self._running:
            return
        self._running = False
        if self._tracer is not None:
            self._tracer.stop()
        try:
            remove_all(self._hooks)
        finally:
            self._hooks = []
            self._parameter_names.clear()
            self._watched.clear()
            self._window.stop()

    def finish(self, workload: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> Recording:
        """Stop, and give the Recording.

        Raises:
            RecordingError: another profiler took the events away.
        """
        while self._phases:
            self._end_phase()
        self.mark(label_gradients(self._gradient_owners()))
        if self._tracer is not None:
            self._tracer.stop()
        _bookend()
        modules = self._module_types()
        self.abandon()
        strings = StringTable()
        tables = self._convert(strings)
        return Recording(
            source=self._source,
            scopes=tables.scopes,
            events=tables.events,
            marks=tables.marks,
            counters=Counters.from_rows([]),
            seeds=self._seeded.rows(tables.seed_ends),
            strings=strings.strings(),
            devices=tuple(device_row(d, describe_device(d), tables.bookends) for d in self._devices),
            environment=describe_environment(),
            workload={**(workload or {}), "modules": modules},
            notes=tuple(notes),
        )

    def _convert(self, strings: StringTable) -> Tables:
        frames = self._tracer.frames if self._tracer is not None else []
        return convert(self._window.roots(), strings, self._devices, self._batches, frames)

    # -- what the caller announces ----------------------------------------------------------------------------------

    def watch(self, model: nn.Module) -> None:
        """Label a model's parameters and buffers now, and its modules, gradients and optimizer states from now on."""
        self._watched.append(model)
        self._module_hooks.watch(model)
        self._gradient_hooks.watch(model.named_parameters())
        self._parameter_names.update((id(parameter), name) for name, parameter in model.named_parameters())
        self.mark(label_model(model))

    def mark_inputs(self, tensors: Any) -> None:
        """Label every tensor in a nest as the workload's own input."""
        self.mark(
            item for name, tensor in nested_tensors(tensors) for item in label_tensor(MarkKind.INPUT, name, tensor)
        )

    def mark(self, labels: Iterable[Label]) -> None:
        """Record labels as true at this moment."""
        batch = [item._replace(storage=None) for item in labels]  # a kept storage would stay alive
        if batch:
            stamp(StampKind.MARKS, len(self._batches))
            self._batches.append(batch)

    @contextmanager
    def step(self, index: int) -> Iterator[None]:
        """A step of the workload; step 0 is the cold one."""
        stamp(StampKind.STEP_BEGIN, index)
        try:
            yield
        finally:
            stamp(StampKind.STEP_END)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase, possibly inside another one (an optimizer that calls back for the loss)."""
        self._begin_phase(name)
        depth = len(self._phases)
        try:
            yield
        finally:
            while len(self._phases) >= depth:
                self._end_phase()

    def _begin_phase(self, name: str, value: int = 0) -> None:
        self._note_ended_seeds()
        self._phases.append(name)
        stamp(StampKind.PHASE_BEGIN, f"{value} {name}")

    def _end_phase(self) -> None:
        stamp(StampKind.PHASE_END, self._phases.pop())
        self._note_ended_seeds()
        self._found_forward = False

    def _note_ended_seeds(self) -> None:
        """Put on the clock that blocks older than the recording are gone; nothing else tells."""
        ended = self._seeded.ended()
        if ended:
            stamp(StampKind.SEEDS_GONE, ",".join(map(str, ended)))

    # -- what the hooks tell ----------------------------------------------------------------------------------------

    def module_entered(self, path: str) -> Any:
        """Open the module's scope; a forward pass begins with a model's own forward."""
        self._end_failed_optimizer()
        if not path and not self._phases:
            self._begin_phase(PhaseName.FORWARD)
            self._found_forward = True
        return path, open_scope(label(StampKind.MODULE, path))

    def module_left(self, token: Any) -> None:
        """Close the module's scope; without gradients there is no loss to wait for, and the forward pass ends too."""
        path, scope = token
        scope.__exit__(None, None, None)
        if not path and not torch.is_grad_enabled():
            self._end_found_forward()

    def _end_found_forward(self) -> None:
        if self._found_forward:
            self._end_phase()

    @contextmanager
    def _around_backward(self, roots: Iterable[Tensor], builds_graph: bool) -> Iterator[None]:
        """A backward pass; the gradients it starts from belong to it although no node made them."""
        self._end_failed_optimizer()
        self._end_found_forward()
        announced = self._phases[-1:] == [PhaseName.BACKWARD] and not builds_graph
        nested = torch._C._current_autograd_node() is not None  # on this thread: part of the outer backward pass
        if not announced and not nested:
            self._begin_phase(PhaseName.BACKWARD, int(builds_graph))
        self.mark(item for root in roots for item in label_tensor(MarkKind.ROOT_GRADIENT, "", root))
        try:
            yield
        finally:
            if not announced and not nested:
                self._end_phase()

    def _before_optimizer(self, optimizer: Optimizer) -> None:
        self._end_failed_optimizer()
        self._end_found_forward()
        self.mark(label_gradients(self._gradient_owners()))
        if self._phases[-1:] != [PhaseName.OPTIMIZER]:
            self._begin_phase(PhaseName.OPTIMIZER)
            caller = sys._getframe(2)  # torch's wrapper of step, by way of the hook
            self._found_optimizer = (id(caller), caller.f_code)

    def _after_optimizer(self, optimizer: Optimizer) -> None:
        self.mark(label_optimizer_state(optimizer, self._parameter_names))
        if self._found_optimizer is not None:
            self._found_optimizer = None
            self._end_phase()

    def _end_failed_optimizer(self) -> None:
        """End the phase of a step that raised: torch says that a step begins, but not that it ended so."""
        if self._found_optimizer is None:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if (id(frame), frame.f_code) == self._found_optimizer:
                return  # the step is still running: this is its closure
            frame = frame.f_back
        self._found_optimizer = None
        self._end_phase()

    def _on_gradient(self, name: str, gradient: Tensor) -> None:
        self.mark(label_tensor(MarkKind.GRADIENT, name, gradient, name))

    def _gradient_owners(self) -> Iterator[tuple[str, Tensor]]:
        for model in self._watched:
            yield from model.named_parameters()

    # -- what goes into the recording besides -----------------------------------------------------------------------

    def _module_types(self) -> list[list[str]]:
        """[path, class name] of every watched module, first paths only."""
        return [[path, type(module).__name__] for model in self._watched for path, module in model.named_modules()]


def _bookend() -> None:
    """Allocate and free one byte, so that the allocator's total at this moment is in the profiler's stream."""
    scope = open_scope(label(StampKind.BOOKEND))
    try:
        torch.empty(1, dtype=torch.uint8)
    finally:
        scope.__exit__(None, None, None)
