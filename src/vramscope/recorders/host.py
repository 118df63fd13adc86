"""The host recorder: how high a process's memory rises between the boundaries of a run.

It observes the same steps, phases and modules as the profiler recorder, in a process of its own: tracemalloc's
bookkeeping would raise RSS, and the profiler's would raise both.
"""

import os
import tracemalloc
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol

import numpy as np
import psutil
from torch import nn

from vramscope.recorders.autograd_threads import in_backward
from vramscope.recorders.hooks import BackwardHook, BackwardPass, ModuleHooks, remove_all
from vramscope.recorders.samples import HostKind, HostSamples
from vramscope.recording.recording import PhaseName

__all__ = ["HostKind", "HostRecorder", "HostSamples"]

_CLEAR_REFS = "/proc/self/clear_refs"
_STATUS = "/proc/self/status"
_STATUS_BYTES = 16384
_RESET_PEAK = b"5"
"""Written to clear_refs it lowers VmHWM to the current RSS (Linux, Documentation/filesystems/proc.rst)."""


class Meter(Protocol):
    """Measures one kind of host memory, in bytes."""

    method: str

    def current(self) -> int:
        """The value now."""

    def take_peak(self) -> int:
        """The highest value since the last call, or since the meter was made."""

    def close(self) -> None:
        """Give back what the meter holds."""


class KernelPeakMeter:
    """Peak RSS as the Linux kernel keeps it: no rise between two samples is missed. About 10 microseconds a sample."""

    method = "peak RSS kept by the kernel (VmHWM), reset at every boundary"

    def __init__(self) -> None:
        """Open the kernel's files and reset the peak.

        Raises:
            OSError: the system has no such files, or does not let this process write them.
        """
        self._clear_refs = self._status = -1
        try:
            self._clear_refs = os.open(_CLEAR_REFS, os.O_WRONLY)
            self._status = os.open(_STATUS, os.O_RDONLY)
            self.take_peak()
        except BaseException:
            self.close()
            raise

    def current(self) -> int:
        """RSS now."""
        return self._read(b"VmRSS:")

    def take_peak(self) -> int:
        """Peak RSS since the last call."""
        peak_bytes = self._read(b"VmHWM:")
        os.pwrite(self._clear_refs, _RESET_PEAK, 0)
        return peak_bytes

    def close(self) -> None:
        """Close the kernel's files."""
        for descriptor in (self._clear_refs, self._status):
            if descriptor >= 0:
                os.close(descriptor)
        self._clear_refs = self._status = -1

    def _read(self, field: bytes) -> int:
        """A line of ``/proc/self/status`` such as ``VmHWM:     9928 kB``; the kernel's kB are 1024 bytes."""
        _, found, rest = os.pread(self._status, _STATUS_BYTES, 0).partition(field)
        if not found:
            raise OSError(f"{_STATUS} has no {field.decode()}")
        return int(rest.split(None, 1)[0]) * 1024


class SampledMeter:
    """RSS read at the boundaries, where the kernel keeps no resettable peak: what rises and falls between is missed."""

    method = (
        "RSS sampled at boundaries only: this system keeps no peak that can be reset, so a short rise may be missed"
    )

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._last = self.current()

    def current(self) -> int:
        """RSS now."""
        return int(self._process.memory_info().rss)

    def take_peak(self) -> int:
        """The higher one of RSS at the last call and now."""
        previous, self._last = self._last, self.current()
        return max(previous, self._last)

    def close(self) -> None:
        """Nothing is held."""


class PythonHeapMeter:
    """Bytes of live Python objects and numpy arrays, through tracemalloc, which does not count its own bookkeeping."""

    method = "tracemalloc: Python objects and numpy arrays, its own bytes not counted"

    def __init__(self) -> None:
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start()
        tracemalloc.reset_peak()

    def current(self) -> int:
        """Traced bytes now."""
        return tracemalloc.get_traced_memory()[0]

    def take_peak(self) -> int:
        """Peak of traced bytes since the last call."""
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        return peak_bytes

    def close(self) -> None:
        """Stop tracing, unless somebody else began it."""
        if self._started:
            tracemalloc.stop()
        self._started = False


def open_meter(kind: HostKind) -> Meter:
    """The best meter for ``kind`` that this system has; the caller closes it."""
    if kind == HostKind.PYTHON_HEAP:
        return PythonHeapMeter()
    try:
        return KernelPeakMeter()
    except OSError:
        return SampledMeter()


class _Boundary:
    """A context that takes a sample at either end."""

    def __init__(self, sample: Callable[[str], None], begin: str, end: str) -> None:
        self._sample, self._begin, self._end = sample, begin, end

    def __enter__(self) -> None:
        self._sample(self._begin)

    def __exit__(self, *error: object) -> None:
        self._sample(self._end)


class HostRecorder:
    """Samples host memory at the boundaries of steps, phases and watched modules, between `start` and `finish`.

    To be used in a process of its own: with `HostKind.RSS` it resets the peak RSS that the kernel keeps for a process.
    """

    def __init__(self, kind: HostKind) -> None:
        """Measure one kind of memory; nothing happens before `start`."""
        self._kind = kind
        self._labels: list[str] = []
        self._peaks = array("q")
        self._boundaries: dict[str, _Boundary] = {}
        self._phases: list[str] = []
        self._hooks: list[ModuleHooks | BackwardHook] = []
        self._lock = Lock()  # autograd runs recomputed modules on a thread of its own on a GPU
        self._meter: Meter | None = None
        self._before_bytes = 0
        self._method = ""

    # -- the run ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to measure; everything that should not count is imported by now, and the model is not built yet."""
        try:
            self._module_hooks = ModuleHooks(self._boundary)
            self._hooks.append(self._module_hooks)
            self._hooks.append(BackwardHook(self._around_backward))
            self._meter = open_meter(self._kind)
            self._method = self._meter.method
            self._before_bytes = self._meter.current()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stop everything; safe to call at any time, any number of times."""
        meter, self._meter = self._meter, None
        try:
            remove_all(self._hooks)
        finally:
            self._hooks = []
            if meter is not None:
                meter.close()

    def failed(self, error: BaseException) -> bool:
        """Samples of a run that was cut short tell nothing of it."""
        return False

    def finish(self, workload: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> HostSamples:
        """Stop, and give the samples; what the arguments say goes into the main run's recording."""
        self.abandon()
        peaks = np.array(self._peaks, dtype=np.int64)
        return HostSamples(self._kind, self._before_bytes, tuple(self._labels), peaks, self._method)

    # -- what the caller announces ----------------------------------------------------------------------------------

    def watch(self, model: nn.Module) -> None:
        """Sample around every forward of the model's modules from now on."""
        self._module_hooks.watch(model)

    def mark_inputs(self, tensors: Any) -> None:
        """Nothing: which bytes are inputs is the main run's to say."""

    @contextmanager
    def step(self, index: int) -> Iterator[None]:
        """A step of the workload; step 0 is the cold one."""
        self._sample(f"step+ {index}")
        try:
            yield
        finally:
            self._sample(f"step- {index}")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase, possibly inside another one."""
        self._phases.append(name)
        self._sample(f"phase+ {name}")
        try:
            yield
        finally:
            self._phases.pop()
            self._sample(f"phase- {name}")

    # -- what the hooks tell ----------------------------------------------------------------------------------------

    def _boundary(self, path: str) -> _Boundary:
        """What samples around a module's forward."""
        # kept: fresh objects in every call would grow the Python heap that is being measured
        found = self._boundaries.get(path)
        if found is None:
            found = self._boundaries[path] = _Boundary(self._sample, f"module+ {path}", f"module- {path}")
        return found

    @contextmanager
    def _around_backward(self, backward: BackwardPass) -> Iterator[None]:
        """A backward pass that nobody announced, such as a gradient penalty's, is a phase here as in the main run."""
        announced = self._phases[-1:] == [PhaseName.BACKWARD] and not backward.builds_graph
        nested = in_backward()
        if announced or nested:
            yield
            return
        with self.phase(PhaseName.BACKWARD):
            yield

    def _sample(self, label: str) -> None:
        with self._lock:
            if self._meter is not None:
                self._peaks.append(self._meter.take_peak())
                self._labels.append(label)
