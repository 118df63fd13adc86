"""The allocator's own history: every request with its Python stack, and how the segments lay at the end."""

from typing import Any

import torch

from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.snapshot.shape import build_snapshot
from vramscope.errors import RecordingError

MOST_ENTRIES = 1_000_000
"""Entries of one GPU's trace: a step has some thousands, and each takes some hundred bytes."""
_FOREIGN = "the program records its own allocator history, which is left alone"
_NAME = "the allocator's history"


class AllocatorHistory:
    """Torch's own recording of allocator events, bounded, from `start` to `stop`.

    A history that the program records itself is left as it is: ours would replace it.
    """

    def __init__(self) -> None:
        """Nothing is recorded before `start`."""
        self.problem = ""
        """Why there is none, empty if there is."""
        self._running = False

    def start(self) -> None:
        """Begin, with Python stacks for allocations: C++ frames would cost a hundred times as much to read out."""
        asks: Any = torch._C
        if asks._cuda_isHistoryEnabled():
            self.problem = _FOREIGN
            return
        torch.cuda.memory._record_memory_history(
            "all", context="alloc", stacks="python", max_entries=MOST_ENTRIES, clear_history=True
        )
        self._running = True

    def stop(self) -> Snapshot | None:
        """End, and give what was recorded."""
        if not self._running:
            return None
        raw = torch.cuda.memory._snapshot()
        self.drop()
        if any(len(trace) >= MOST_ENTRIES for trace in raw["device_traces"]):
            self.problem = f"more than {MOST_ENTRIES:,} events: the beginning of the allocator's history is lost"
            return None
        try:
            return build_snapshot(raw, _NAME, _LARGEST_FILE)
        except RecordingError as error:
            self.problem = f"the allocator's history cannot be read: {error}"
            return None

    def drop(self) -> None:
        """End, and keep nothing."""
        if self._running:
            self._running = False
            torch.cuda.memory._record_memory_history(None)


_LARGEST_FILE = 1 << 40
"""What is our own needs no bound against forgery."""
