"""One stretch of profiling: torch's profiler started, stopped and read, without a word on the user's stderr."""

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import Any, ClassVar

import torch
from torch.autograd import profiler
from torch.profiler import ProfilerAction

from vramscope.errors import UnsupportedError

STAMP_PREFIX = "vramscope:"
"""Names that begin so are our own scopes and stamps in the profiler's tree."""


_NOT_ALONE = (
    "torch.profiler is already running in this process, and profilers do not nest: stop it, or profile outside it"
)
_PROFILER_STEP = "ProfilerStep"
"""torch/profiler/profiler.py: counted while a ``torch.profiler.profile`` is between its start and its stop."""
_ENDED_ALREADY = "when it's not running"
"""torch/csrc/autograd/profiler_kineto.cpp, ``disableProfiler``."""


class ProfilerWindow:
    """Runs torch's profiler with allocation events on, and nothing else that costs time or holds tensors."""

    _in_process: ClassVar[Lock] = Lock()  # torch crashes where two threads start profilers

    def __init__(self) -> None:
        # GPU allocators report to any profiler that asks for memory: tracing kernels too would cost time and memory
        self._profile = profiler.profile(use_device=None, profile_memory=True, use_kineto=True)

    def start(self) -> None:
        """Begin recording on this thread.

        Raises:
            UnsupportedError: another profiler is active, on any thread; profilers of one process do not nest.
        """
        if not self._in_process.acquire(blocking=False):
            raise UnsupportedError(_NOT_ALONE)
        try:
            if _is_profiled():
                raise UnsupportedError(_NOT_ALONE)
            with _quiet_stderr():
                self._profile.__enter__()
        except BaseException:
            self._in_process.release()
            raise

    def stop(self) -> None:
        """End recording; `take_roots` may be called afterwards."""
        try:
            with _quiet_stderr():
                self._profile.__exit__(None, None, None)
        except RuntimeError as error:
            # torch 2.11 refuses to end what another profiler has ended already; later versions end nothing quietly
            if _ENDED_ALREADY not in str(error):
                raise
        finally:
            self._in_process.release()

    def take_roots(self) -> list[Any]:
        """The top-level nodes of the event tree, once: the window keeps no events, which are many."""
        results, self._profile.kineto_results = self._profile.kineto_results, None
        return [] if results is None else list(results.experimental_event_tree())


def _is_profiled() -> bool:
    """Whether a profiler runs on this thread or another, or warms up: torch crashes where a second one begins then."""
    return (
        torch._C._autograd._profiler_enabled()
        or profiler._is_profiler_enabled
        or (_PROFILER_STEP in profiler.KinetoStepTracker._step_dict and any(map(_warms_up, gc.get_objects())))
    )


def _warms_up(item: Any) -> bool:
    # by its type: an object's own `__class__` may run code
    return issubclass(type(item), torch.profiler.profile) and item.current_action is ProfilerAction.WARMUP


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back the profiler library's own ``USDT:`` lines; whatever else is written meanwhile is passed on."""
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
            rest = b"".join(line for line in held if not line.startswith(b"USDT:"))
            if rest:
                os.write(2, rest)


def _flush() -> None:
    if sys.stderr is not None:  # a daemon has none
        sys.stderr.flush()
