"""A cheap, honest count of live memory at the end of a step, for the steps that no profiler watches."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

_FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


class LiveBytes:
    """Counts bytes in use, in microseconds (tens in a heap of many free pieces); ``method`` says what they are.

    On a GPU: what torch's allocator has handed out. Else what the C library's ``malloc`` has handed out and not got
    back: all CPU tensors, numpy arrays and other native memory; unlike RSS, it does not count freed memory. Where the C
    library cannot tell, RSS.
    """

    def __init__(self, device: torch.device) -> None:
        self.method, self._read = _cuda(device) if device.type == "cuda" else _host()

    def read(self) -> int:
        """Bytes in use now."""
        return self._read()


def _cuda(device: torch.device) -> tuple[str, Callable[[], int]]:
    return f"allocated on {device}", lambda: int(torch.cuda.memory_allocated(device))


def _host() -> tuple[str, Callable[[], int]]:
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        process = psutil.Process()
        return "resident set size", lambda: int(process.memory_info().rss)
    mallinfo2.restype = _Mallinfo
    return "in use by malloc", lambda: _in_use(mallinfo2())


def _in_use(info: _Mallinfo) -> int:
    """Bytes in blocks of the heaps, and in blocks that have a mapping of their own."""
    return int(info.uordblks + info.hblkhd)


def children_rss() -> list[tuple[str, int]]:
    """(name, resident bytes) of every process that this one has started, such as a DataLoader's workers."""
    if not _has_children():
        return []
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            found.append((f"{child.name()} {child.pid}", int(child.memory_info().rss)))
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def _has_children() -> bool:
    """Whether this process has children; asks the kernel where it tells cheaply."""
    try:
        return any(task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir())
    except OSError:
        return True
