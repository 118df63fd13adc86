"""Recording one test: from before its function is called until everything it let go of is gone."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from vramscope.errors import UnsupportedError
from vramscope.recorders.autograd_threads import in_backward
from vramscope.recorders.batches import inputs_in
from vramscope.recorders.given import GivenOut
from vramscope.recorders.labels import Label, label_tensor
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.scripts.surroundings import replace_attribute
from vramscope.recording.merge import merge
from vramscope.recording.parts import Part
from vramscope.recording.recording import Recording
from vramscope.testing.limits import AUTO
from vramscope.testing.threads import ThreadWatch


def device_called(name: str) -> torch.device:
    """The device that a limit means here.

    Raises:
        UnsupportedError: it means a GPU, and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if name == AUTO:
        name = "cuda" if has_gpu else "cpu"
    if not name.startswith("cuda"):
        return torch.device(name)
    if not has_gpu:
        raise UnsupportedError(f"device={name!r}: this torch ({torch.__version__}) sees no CUDA GPU")
    return torch.device(name if ":" in name else f"cuda:{torch.cuda.current_device()}")


class Measurement:
    """Records a test, in several windows where it profiles a block of its own, because profilers do not nest."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._recorder: _TestRecorder | None = None
        self._windows: list[Recording] = []
        self._threads = ThreadWatch()

    @property
    def other_threads(self) -> tuple[str, ...]:
        """The names of the threads that the test started: nothing is recorded there."""
        return self._threads.started

    def start(self) -> None:
        """Begin, or go on after `pause`.

        Raises:
            UnsupportedError: another profiler is running.
        """
        recorder = _TestRecorder(self.device)
        recorder.start()
        self._recorder = recorder
        self._threads.start()

    def pause(self) -> None:
        """End the window, after what nobody holds any more is gone."""
        if self._recorder is None:
            return
        recorder, self._recorder = self._recorder, None
        try:
            gc.collect()
            self._windows.append(recorder.finish())
        finally:
            recorder.abandon()

    @contextmanager
    def interrupted(self) -> Iterator[list[Recording]]:
        """Make room for another recorder; the recordings that the body adds to the list take the window's place."""
        self.pause()
        try:
            yield self._windows
        finally:
            self.start()

    def finish(self) -> Recording:
        """End, and give everything as one recording."""
        self._threads.stop()
        self.pause()
        whole = merge(Part(index, index, recording) for index, recording in enumerate(self._windows))
        modules = {path: kind for recording in self._windows for path, kind in recording.workload["modules"]}
        return replace(whole, workload={"modules": [[path, kind] for path, kind in modules.items()]})


class _TestRecorder(ProfilerRecorder):
    """Records a test, and finds by itself what models and optimizers it has.

    A model is known once it is called from outside any other module, and what it is called with is input, unless a
    model gave it. The parameters of an optimizer are known from when it is made, for their model may never be called.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._calls = self
        self._known: WeakSet[nn.Module] = WeakSet()
        self._given_out = GivenOut()
        self._in_the_making: Optimizer | None = None
        self._undo = ExitStack()

    def start(self, seeds: Iterable[Label] = ()) -> None:
        """As any recorder, and look for optimizers."""
        super().start(seeds)
        replace_attribute(self._undo, Optimizer, "__init__", self._making)
        replace_attribute(self._undo, Optimizer, "add_param_group", self._adding)

    def abandon(self) -> None:
        """As any recorder; the hooks of before are back."""
        self._undo.close()
        super().abandon()

    def _making(self, original: Callable[..., None]) -> Callable[..., None]:
        def make(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            if is_dynamo_compiling() or not self._is_own_thread():
                original(optimizer, *args, **kwargs)
                return
            self._in_the_making = optimizer  # each of its groups is added
            try:
                original(optimizer, *args, **kwargs)
            finally:
                self._in_the_making = None
            self.watch_optimizer(optimizer)

        return make

    def _adding(self, original: Callable[..., None]) -> Callable[..., None]:
        def add(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if optimizer is not self._in_the_making and not is_dynamo_compiling() and self._is_own_thread():
                self.watch_optimizer(optimizer)

        return add

    def call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called from outside any other; one that runs in a backward pass is recomputed, and known."""
        if not self._is_own_thread() or in_backward():
            return
        if module not in self._known:
            self.watch(module)
            self._known.update(module.modules())
        inputs = (found for found in inputs_in((args, kwargs)) if self._is_input(found[-1]))
        self.mark(item for kind, name, tensor in inputs for item in label_tensor(kind, name, tensor))

    def call_ended(self, module: nn.Module, output: Any) -> None:
        """What it has given is no input of the next one."""
        if self._is_own_thread():
            with suppress(Exception):  # objects of the test may raise anything
                self._given_out.add(output)

    def _is_input(self, tensor: Tensor) -> bool:
        return tensor.grad_fn is None and not self._given_out.includes(tensor)
