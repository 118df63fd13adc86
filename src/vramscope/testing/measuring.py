"""Recording one test: from before its function is called until everything it let go of is gone."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from vramscope.errors import UnsupportedError
from vramscope.recorders.profiler import ProfilerRecorder
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
    """Records a test, in several windows where it profiles a block of its own, because profilers do not nest.

    Models are found by themselves: each one whose forward is called outside of another module's.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._recorder: ProfilerRecorder | None = None
        self._windows: list[Recording] = []
        self._models: _ModelFinder | None = None
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
        recorder = ProfilerRecorder(self.device)
        self._models = _ModelFinder(recorder)  # before the recorder's own hooks, so that a model's first call counts
        try:
            recorder.start()
        except BaseException:
            self._models.remove()
            raise
        self._recorder = recorder
        self._threads.start()

    def pause(self) -> None:
        """End the window, after what nobody holds any more is gone."""
        if self._recorder is None:
            return
        recorder, self._recorder = self._recorder, None
        if self._models is not None:
            self._models.remove()
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


class _ModelFinder:
    """Hands every model to a recorder as soon as it is first called."""

    def __init__(self, recorder: ProfilerRecorder) -> None:
        self._recorder = recorder
        self._known: WeakSet[nn.Module] = WeakSet()
        self._depth = 0
        self._thread = threading.get_ident()
        self._handles = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
        ]

    def remove(self) -> None:
        """Look for no more."""
        for handle in self._handles:
            handle.remove()

    def _before(self, module: nn.Module, arguments: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if not self._depth and module not in self._known:
            self._recorder.watch(module)
            self._known.update(module.modules())
        self._depth += 1

    def _after(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._depth = max(self._depth - 1, 0)
