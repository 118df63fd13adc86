"""What a recording of GPUs needs besides the profiler's events: older blocks, and samples of the devices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._C._profiler import _RecordFunctionFast

from vramscope.allocator.snapshot.model import Snapshot
from vramscope.recorders.conversion import StringTable
from vramscope.recorders.cuda.device import DeviceMeter
from vramscope.recorders.cuda.history import AllocatorHistory
from vramscope.recorders.cuda.history_joining import with_history
from vramscope.recorders.cuda.workspaces import with_workspaces, workspaces_of
from vramscope.recorders.device_order import without_idle_devices
from vramscope.recorders.seeds import SeedWatch
from vramscope.recorders.stamps import StampKind, label
from vramscope.recording.counters import DeviceCounter
from vramscope.recording.recording import Recording

_ALLOCATED_STATE = "active_allocated"
_STATISTICS = {
    DeviceCounter.ALLOCATED: "allocated_bytes.all.current",
    DeviceCounter.SMALL_POOL: "allocated_bytes.small_pool.current",
    DeviceCounter.REQUESTED: "requested_bytes.all.current",
    DeviceCounter.ACTIVE: "active_bytes.all.current",
    DeviceCounter.RESERVED: "reserved_bytes.all.current",
}
_PEAK_KEY = "allocated_bytes.all.peak"
Row = tuple[int, DeviceCounter, int]
"""Device number, name and value."""


class GpuRecorder:
    """Looks at the GPUs of a recording whenever it is asked; a GPU that the process does not use is not touched.

    Args:
        devices: those of the recording, which numbers them in this order.
        history: whether to keep the allocator's own history.
        own_process: whether workspaces may be taken from libraries at the end.
    """

    def __init__(self, devices: Sequence[torch.device], history: bool, own_process: bool) -> None:
        self._history = AllocatorHistory() if history else None
        self._own_process = own_process
        self._snapshot: Snapshot | None = None
        self._peak_is_ours = False
        self._numbers = {device.index: number for number, device in enumerate(devices) if device.type == "cuda"}
        self._meters = {index: DeviceMeter(torch.device("cuda", index)) for index in self._numbers}
        self._samples: list[list[Row]] = []

    def look_at_blocks(self, seeds: SeedWatch) -> None:
        """Tell what is allocated already: a GPU's allocator knows all of its blocks."""
        seeds.know(self._older_blocks())
        seeds.trust(self._numbers.values())

    def start(self) -> None:
        """Begin the history; the profiler is running."""
        if self._history is not None:
            self._history.start()

    def steady_steps_begin(self) -> None:
        """Let torch's own peak begin anew, where no program could miss the one before."""
        if self._own_process and not self._peak_is_ours:
            self._peak_is_ours = True
            for index in self._numbers:
                torch.cuda.reset_peak_memory_stats(index)

    def give_back_workspaces(self) -> None:
        """Where nobody misses them: what is freed meanwhile is known to be a workspace of cuBLAS.

        The next matrix product would take a new one.
        """
        if self._own_process:
            asks: Any = torch._C
            with _RecordFunctionFast(label(StampKind.WORKSPACES)):
                asks._cuda_clearCublasWorkspaces()

    def stop(self) -> None:
        """End the history and read it."""
        if self._history is not None:
            self._snapshot = self._history.stop()

    def drop(self) -> None:
        """End the history, if it runs, and keep nothing of it."""
        if self._history is not None:
            self._history.drop()

    def complete(self, recording: Recording) -> Recording:
        """The recording with what the history tells, and without GPUs that nobody used."""
        facts = {**recording.environment, "devices": self._methods()}
        recording = replace(recording, environment=facts)
        if self._history is not None and self._history.problem:
            recording = recording.with_notes(self._history.problem)
        kinds = workspaces_of({f"cuda:{index}": index for index in self._numbers if _is_used(index)})
        if self._snapshot is not None:
            recording = with_history(recording, self._snapshot, kinds)
        else:
            recording = with_workspaces(recording, kinds)
        return without_idle_devices(recording)

    def _older_blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """(address, size, requested, device number) of every block that is allocated now, by the allocator's word."""
        for segment in torch.cuda.memory_snapshot(include_traces=False):
            number = self._numbers.get(segment["device"])
            address = segment["address"]
            for block in segment["blocks"]:
                if block["state"] == _ALLOCATED_STATE and number is not None:
                    yield address, block["size"], block["requested_size"], number
                address += block["size"]

    def sample(self) -> int:
        """Read all devices now; gives the sample's number."""
        rows = [row for index in self._meters if _is_used(index) for row in self._read(index)]
        self._samples.append(rows)
        return len(self._samples) - 1

    def counters(self, times: Mapping[int, int], strings: StringTable) -> list[tuple[int, int, int, int]]:
        """Counter rows of the samples, given when each was taken (ns); those that are not on the clock are left out."""
        return [
            (times[number], strings.number(name), device, value)
            for number, rows in enumerate(self._samples)
            if number in times
            for device, name, value in rows
        ]

    def _methods(self) -> dict[str, str]:
        """How this process's share of each device was known."""
        return {f"cuda:{index}": meter.method for index, meter in self._meters.items() if meter.method}

    def _read(self, index: int) -> list[Row]:
        number, statistics = self._numbers[index], torch.cuda.memory_stats(index)
        keys = _STATISTICS | ({DeviceCounter.PEAK: _PEAK_KEY} if self._peak_is_ours else {})
        rows: list[Row] = [(number, name, int(statistics.get(key, 0))) for name, key in keys.items()]
        use = self._meters[index].read()
        told = {
            DeviceCounter.USED: use.used_bytes,
            DeviceCounter.FREE: use.free_bytes,
            DeviceCounter.DRIVER: use.driver_bytes,
            DeviceCounter.TOTAL: use.total_bytes,
        }
        rows += [(number, name, value) for name, value in told.items()]
        return rows if use.process_bytes is None else [*rows, (number, DeviceCounter.PROCESS, use.process_bytes)]


def _is_used(index: int) -> bool:
    """Whether this process has a context on a GPU: asking for more would make one, which takes memory."""
    asks: Any = torch._C
    return bool(asks._cuda_hasPrimaryContext(index))
