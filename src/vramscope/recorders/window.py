"""One stretch of profiling: torch's profiler started, stopped and read, without a word on the user's stderr."""

import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import Any, ClassVar

import torch
from torch.autograd import profiler
from torch.profiler import ProfilerAction
from torch.profiler.profiler import _KinetoProfile

from vramscope.errors import UnsupportedError
from vramscope.recorders.quiet import QuietAllocator

STAMP_PREFIX = "vramscope:"
"""Names that begin so are our own scopes and stamps in the profiler's tree."""


_NOT_ALONE = (
    "torch.profiler is already running in this process, on this thread or another, and profilers do not nest: "
    "stop it, or profile outside it"
)
_NOT_TWICE = (
    "vramscope is already running in this process, on this thread or another, and recordings do not nest: keep one of "
    "the two. If the vramscope pytest plugin is measuring this test, use the `vramscope` fixture's profile() instead"
)
"""Where it is a window of our own that runs."""
_ENDED_ALREADY = "when it's not running"
"""torch/csrc/autograd/profiler_kineto.cpp, ``disableProfiler``; torch 2.11 may say so when another one starts."""
_OWN_WORDS = re.compile(rb"USDT:|ERROR:\S+ \S+ \S+ DeviceProperties\.cpp:\d+\] gpuGetDeviceCount failed")
"""What the profiler's library says of itself: progress, and that a build for CUDA has found no driver."""


class ProfilerWindow:
    """Runs torch's profiler with allocation events on, and nothing else that costs time or holds tensors."""

    _in_process: ClassVar[Lock] = Lock()
    """Held by the window that runs: torch's profiler is the process's own, and crashes where two threads start one."""

    def __init__(self, looks: bool = True) -> None:
        """``looks``: whether to look for profilers that warm up, which takes a moment; else the caller knows of all."""
        self._looks = looks
        # GPU allocators report to any profiler that asks for memory: tracing kernels too would cost time and memory
        self._profile = profiler.profile(use_device=None, profile_memory=True, use_kineto=True)
        self._quiet = QuietAllocator()

    def start(self) -> None:
        """Begin recording on this thread.

        Raises:
            UnsupportedError: another profiler is active, on any thread; profilers of one process do not nest. Or torch
                still counts one that is lost.
        """
        self._held = self._in_process  # a forked child gets another
        if not self._held.acquire(blocking=False):
            raise UnsupportedError(_NOT_TWICE)
        try:
            if _one_runs() or (self._looks and _one_warms_up()):
                raise UnsupportedError(_NOT_ALONE)
            self._quiet.begin()
            self._enter()
        except BaseException:
            self._quiet.end()
            self._held.release()
            raise

    def _enter(self) -> None:
        try:
            with _quiet_stderr():
                self._profile.__enter__()
        except RuntimeError as error:
            if _ENDED_ALREADY not in str(error):
                raise
            # torch 2.11; later versions begin anew
            raise UnsupportedError(
                f"torch {torch.__version__} takes a profiler for running that is lost, on another thread or with a "
                "fork, and starts no other: profile in a new process"
            ) from error

    @classmethod
    def is_busy(cls) -> bool:
        """Whether none can start now, as far as can be told at once."""
        return cls._in_process.locked() or _one_runs()

    @classmethod
    def begin_in_child(cls) -> None:
        """In a forked child: of the parent's threads only the one that forked goes on."""
        cls._in_process = Lock()
        profiler._set_is_profiler_enabled(torch._C._autograd._profiler_enabled())

    def stop(self) -> None:
        """End recording; `take_roots` may be called afterwards."""
        try:
            with _quiet_stderr():
                self._profile.__exit__(None, None, None)
        except RuntimeError as error:
            # torch 2.11 refuses to end what another profiler, or thread, has ended already, and starts none after that;
            # later versions end nothing quietly
            if _ENDED_ALREADY not in str(error):
                raise
            profiler._set_is_profiler_enabled(False)
        finally:
            self._quiet.end()
            self._held.release()

    def forget(self) -> None:
        """Let go of what was recorded: whoever still holds the window does not hold its events."""
        self._profile.kineto_results = None

    def take_roots(self) -> list[Any]:
        """The top-level nodes of the event tree, once: the window keeps no events, which are many."""
        results, self._profile.kineto_results = self._profile.kineto_results, None
        return [] if results is None else list(results.experimental_event_tree())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ProfilerWindow.begin_in_child)


def _one_runs() -> bool:
    """Whether a profiler runs, on this thread or another."""
    return torch._C._autograd._profiler_enabled() or profiler._is_profiler_enabled


def _one_warms_up() -> bool:
    """Whether a profiler with a schedule has prepared what it will start with its next step; torch does not tell."""
    if not any(map(_warms_up, gc.get_objects())):
        return False
    gc.collect()  # it may be one that nobody has any more
    return any(map(_warms_up, gc.get_objects()))


def _warms_up(item: Any) -> bool:
    if not issubclass(type(item), _KinetoProfile):  # by its type: an object's `__class__` may run code
        return False
    state = vars(item)  # where its constructor failed, all may be missing
    inner = state.get("profiler")
    if inner is None or state.get("current_action", ProfilerAction.WARMUP) is not ProfilerAction.WARMUP:
        return False
    # one that goes on collecting keeps its first start: of two evils, being refused is the smaller
    return bool(state.get("acc_events")) or not inner.profiling_start_time_ns


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back `_OWN_WORDS`; whatever else is written meanwhile is passed on."""
    _flush()
    try:
        saved = os.dup(2)
    except OSError:  # the process has no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            rest = b"".join(line for line in held if not _OWN_WORDS.match(line))
            if rest:
                os.write(2, rest)


def _flush() -> None:
    if sys.stderr is not None:  # a daemon has none
        sys.stderr.flush()
