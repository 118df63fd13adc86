"""A run on a GPU without a GPU: a program on the simulator of the allocator, seen by profiler and history at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.allocator.snapshot_builder import Frames, Program, load
from tests.helpers import BASE_TOTAL, Script

from vramscope.allocator.simulator import SimulatedOutOfMemory
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.recorders.counters import with_counters
from vramscope.recording.counters import DeviceCounter, FailureCounter
from vramscope.recording.recording import Device, Recording


class CudaRun(Script):
    """Writes both recordings of one program; its GPU is the only device."""

    def __init__(self, settings: str = "", capacity: int | None = None) -> None:
        super().__init__()
        self.program = Program(settings, capacity)
        self._reserved: list[int] = []
        self._counters: list[tuple[int, str, int, int]] = []
        self._seeded: list[tuple[int, int, int]] = []

    def older(self, size: int) -> int:
        """A block from before the recording, which the allocator itself lists."""
        address = self.program.malloc(size)
        self.program.trace.clear()
        self._seeded.append((address, self.program.simulator.in_use[address].size, size))
        return address

    def malloc(self, size: int, stream: int = 0, frames: Frames | None = None, pool: Any = None) -> int:
        """An allocation; gives its address."""
        address = self.program.malloc(size, stream, pool, frames)
        self.alloc(address, self.program.simulator.in_use[address].size, requested=-1)
        self._reserved.append(self.program.simulator.totals.reserved)
        return address

    def release(self, address: int, *, used_on: Sequence[int] = ()) -> None:
        """A free; a block used on other streams waits for them."""
        block = self.program.simulator.in_use[address]
        size = block.size
        for stream in used_on:
            self.program.simulator.record_stream(address, stream)
        self.program.free(address)
        self.free(address, size, requested=-1)
        self._reserved.append(self.program.simulator.totals.reserved)

    @contextmanager
    def failing(self, size: int) -> Iterator[None]:
        """An allocation that finds no memory, as the profiler and the history tell it."""
        now = self._tick()
        try:
            self.program.malloc(size)
        except SimulatedOutOfMemory:
            self._counters += [(now, FailureCounter.ASKED, 0, -1), (now, FailureCounter.AVAILABLE, 0, -1)]
            yield
            return
        raise AssertionError(f"{size} bytes fit")

    def sample(self, used: int, process: int | None, total: int, driver: int = 0) -> None:
        """What a look at the device finds now."""
        totals, now = self.program.simulator.totals, self._tick()
        requested = sum(block.requested for block in self.program.simulator.in_use.values() if block.allocated)
        small = sum(b.size for b in self.program.simulator.in_use.values() if b.allocated and b.pool.small)
        read = {
            DeviceCounter.ALLOCATED: totals.allocated,
            DeviceCounter.SMALL_POOL: small,
            DeviceCounter.REQUESTED: requested,
            DeviceCounter.ACTIVE: totals.active,
            DeviceCounter.RESERVED: totals.reserved,
            DeviceCounter.USED: used,
            DeviceCounter.FREE: total - used - driver,
            DeviceCounter.DRIVER: driver,
            DeviceCounter.TOTAL: total,
        }
        if process is not None:
            read[DeviceCounter.PROCESS] = process
        self._counters += [(now, name, 0, value) for name, value in read.items()]

    def recording(self) -> Recording:
        """What the profiler saw, and what was read of the device."""
        plain = super().recording()
        device = Device("cuda:0", "a GPU", BASE_TOTAL, plain.devices[0].end_total)
        reserved = np.array(self._reserved, dtype=np.int64)
        recording = replace(plain, devices=(device,), events=replace(plain.events, reserved=reserved))
        rows = [(address, size, requested, 0, -1) for address, size, requested in self._seeded]
        seeds = type(plain.seeds).from_rows(rows)
        return with_counters(replace(recording, seeds=seeds), self._counters)

    def history(self, folder: Path) -> Snapshot:
        """What the allocator's history saw, read from a file as PyTorch writes it."""
        return load(self.program.snapshot(), folder)
