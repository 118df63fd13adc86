"""Recognising that memory ran out, in whatever an error was wrapped, and what there was when it did."""

import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

from vramscope.recording.recording import UNKNOWN

_CPU_ASKED = re.compile(r"DefaultCPUAllocator: (?:can't allocate|not enough) memory: you tried to allocate (\d+)")
"""c10/core/impl/alloc_cpu.cpp."""
_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_GPU_ASKED = re.compile(rf"Tried to allocate {_SIZE}\. GPU (\d+)")
_GPU_FREE = re.compile(rf"of which {_SIZE} is free")
"""c10/cuda/CUDACachingAllocator.cpp: the segment that the request needs, and two decimals; the allocator's history is
more exact."""
_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True)
class OutOfMemory:
    """An allocation that failed; bytes, `UNKNOWN` where nobody told. ``is_rounded``: they are not exact."""

    device: str
    asked_bytes: int
    available_bytes: int
    is_rounded: bool = False


def out_of_memory(error: BaseException | None) -> OutOfMemory | None:
    """What an error, or an error that led to it, says of memory that ran out; None if it is about something else.

    To be asked where the error is caught: what was available is read now.
    """
    for cause in _causes(error):
        text = str(cause)
        on_cpu, on_gpu = _CPU_ASKED.search(text), _GPU_ASKED.search(text)
        if on_cpu:
            return OutOfMemory("cpu", int(on_cpu[1]), available_host_bytes())
        if on_gpu:
            free = _GPU_FREE.search(text)
            available = UNKNOWN if free is None else _in_bytes(free)
            return OutOfMemory(f"cuda:{on_gpu[3]}", _in_bytes(on_gpu), available, is_rounded=True)
        if isinstance(cause, torch.OutOfMemoryError):
            return OutOfMemory("", UNKNOWN, UNKNOWN)
    return None


def _in_bytes(size: "re.Match[str]") -> int:
    return int(float(size[1]) * _UNITS[size[2]])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def available_host_bytes() -> int:
    """What this process could still get of host memory: the system's free memory, or less where a limit is set."""
    free = int(psutil.virtual_memory().available)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return max(min(free, limit - int(psutil.Process().memory_info().vms)), 0)
