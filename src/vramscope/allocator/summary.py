"""What a snapshot says, in figures: per device the peak, who held it, how much lay idle, and how sure that is."""

from dataclasses import dataclass

import numpy as np

from vramscope.allocator.exported import history_of, look_at_exported
from vramscope.allocator.moment import Evidence, Moment, look_at
from vramscope.allocator.replay import Replay, pass_until
from vramscope.allocator.snapshot.model import UNKNOWN, Action, Snapshot
from vramscope.errors import RecordingError


@dataclass(frozen=True)
class DeviceSummary:
    """One device's history, which may be empty; sizes in bytes.

    ``name`` is the device as PyTorch writes it, ``peak`` the moment of most allocated bytes, ``end`` the moment of the
    snapshot. ``duration_us`` is `UNKNOWN` where the file has no times. ``out_of_memory`` counts allocations that failed
    in the recording.
    """

    device: int
    name: str
    replay: Replay
    entries: int
    first_time_us: int
    duration_us: int
    out_of_memory: int
    peak: Moment
    end: Moment


@dataclass(frozen=True)
class SnapshotSummary:
    """All devices that have a history or hold memory; ``marks`` are reasons to doubt the figures, across devices."""

    snapshot: Snapshot
    devices: tuple[DeviceSummary, ...]
    marks: tuple[str, ...]

    @property
    def matched(self) -> int:
        """Allocations that the replay put at the recorded address."""
        return sum(device.replay.matched for device in self.devices)

    @property
    def allocations(self) -> int:
        """Allocations in all traces."""
        return sum(device.replay.allocations for device in self.devices)


def require_history(snapshot: Snapshot) -> None:
    """Refuse a snapshot without trace entries: it has no peak to speak of.

    Raises:
        RecordingError: saying what the file does hold and how to record a history.
    """
    if any(len(trace) for trace in snapshot.traces):
        return
    if "backend:" in snapshot.settings_text and "backend:native" not in snapshot.settings_text:
        why = f"the allocator was {snapshot.settings_text!r}, which records no history; use the native backend"
    else:
        why = "call torch.cuda.memory._record_memory_history() before the part to look at"
    held = sum(segment.size for segment in snapshot.segments)
    state = f"only a final state: {len(snapshot.segments)} segments, {held} bytes" if held else "no memory either"
    raise RecordingError(f"{snapshot.name}: the snapshot has no recorded events ({state}); {why}")


def summarise(snapshot: Snapshot) -> SnapshotSummary:
    """Replay every device that has a history or holds memory, and describe its peak.

    Raises:
        RecordingError: no device has a history.
    """
    require_history(snapshot)
    devices = tuple(_summarise_device(snapshot, device) for device in snapshot.devices)
    return SnapshotSummary(snapshot, devices, snapshot.marks + tuple(_doubts(devices)))


def _summarise_device(snapshot: Snapshot, device: int) -> DeviceSummary:
    replayed = history_of(snapshot, device)
    trace = snapshot.traces[device]
    peak, end = (_moment(snapshot, replayed, entry) for entry in (replayed.peak_entry, len(trace) - 1))
    times = trace.time_us
    timed = bool(len(times) and (times != UNKNOWN).all())
    return DeviceSummary(
        device=device,
        name=snapshot.device_name(device),
        replay=replayed,
        entries=len(trace),
        first_time_us=int(times[0]) if timed else UNKNOWN,
        duration_us=int(times.max() - times.min()) if timed else UNKNOWN,
        out_of_memory=int(np.count_nonzero(trace.action == Action.OOM)),
        peak=peak,
        end=end,
    )


def _moment(snapshot: Snapshot, replayed: Replay, entry: int) -> Moment:
    if snapshot.exported_from:
        return look_at_exported(snapshot, replayed, entry)
    evidence = Evidence(snapshot, replayed.device, replayed.start)
    return look_at(pass_until(snapshot, replayed, entry), entry, evidence)


def _doubts(devices: tuple[DeviceSummary, ...]) -> list[str]:
    """Why figures of the replay may be off."""
    doubts = []
    for device in devices:
        doubts += [f"{device.name}: {mark}" for mark in device.replay.marks]
        missed = device.replay.allocations - device.replay.matched
        if missed:
            total = device.replay.allocations
            doubts.append(f"{device.name}: {missed} of {total} allocations lie elsewhere than the rules say")
    return doubts
