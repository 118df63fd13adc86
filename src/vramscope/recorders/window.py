"""One stretch of profiling: torch's profiler started, stopped and read, without a word on the user's stderr."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.profiler import profile as autograd_profile

from vramscope.errors import UnsupportedError

STAMP_PREFIX = "vramscope:"
"""Names that begin so are our own scopes and stamps in the profiler's tree."""


_ENDED_ALREADY = "when it's not running"
"""torch/csrc/autograd/profiler_kineto.cpp, ``disableProfiler``."""


class ProfilerWindow:
    """Runs torch's profiler with allocation events on, and nothing else that costs time or holds tensors."""

    def __init__(self) -> None:
        # GPU allocators report to any profiler that asks for memory: tracing kernels too would cost time and memory
        self._profile = autograd_profile(use_device=None, profile_memory=True, use_kineto=True)

    def start(self) -> None:
        """Begin recording on this thread.

        Raises:
            UnsupportedError: another profiler is active; profilers of one process do not nest.
        """
        if torch._C._autograd._profiler_enabled():
            raise UnsupportedError(
                "torch.profiler is already running in this process, and profilers do not nest: "
                "stop it, or profile outside it"
            )
        with _quiet_stderr():
            self._profile.__enter__()

    def stop(self) -> None:
        """End recording; `take_roots` may be called afterwards."""
        with _quiet_stderr():
            try:
                self._profile.__exit__(None, None, None)
            except RuntimeError as error:
                # torch 2.11 refuses to end what another profiler has ended already; later versions end nothing quietly
                if _ENDED_ALREADY not in str(error):
                    raise

    def take_roots(self) -> list[Any]:
        """The top-level nodes of the event tree, once: the window keeps no events, which are many."""
        results, self._profile.kineto_results = self._profile.kineto_results, None
        return [] if results is None else list(results.experimental_event_tree())


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
