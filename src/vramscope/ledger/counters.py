"""Reading counters: figures that were taken at moments, by name and device."""

from dataclasses import dataclass

import numpy as np

from vramscope.recording.counters import LayoutCounter
from vramscope.recording.recording import UNKNOWN, Integers, Recording


@dataclass(frozen=True)
class Fragments:
    """How a GPU allocator's cache lay at a moment, bytes.

    ``releasable_bytes`` are free in whole segments, ``stuck_bytes`` beside blocks in use, ``pending_bytes`` freed but
    waiting for a stream; ``largest_free_bytes`` is what the cache could serve at once.
    """

    releasable_bytes: int
    stuck_bytes: int
    pending_bytes: int
    largest_free_bytes: int
    segments: int


def counter_rows(recording: Recording, name: str, device: int) -> Integers:
    """The rows of a counter on a device, by time."""
    if name not in recording.strings:
        return np.empty(0, dtype=np.int64)
    counters = recording.counters
    rows = np.flatnonzero((counters.name == recording.strings.index(name)) & (counters.device == device))
    return rows[np.argsort(counters.time_ns[rows], kind="stable")]


def value_at(recording: Recording, name: str, device: int, time_ns: int) -> int | None:
    """What was read at exactly a moment; None if nothing was, or nobody told."""
    value = int(values_at(recording, name, device, np.array([time_ns]))[0])
    return None if value == UNKNOWN else value


def values_at(recording: Recording, name: str, device: int, times_ns: Integers) -> Integers:
    """What was read at exactly each of some moments; `UNKNOWN` where nothing was, or nobody told."""
    rows = counter_rows(recording, name, device)
    times, values = recording.counters.time_ns[rows], np.append(UNKNOWN, recording.counters.value[rows])
    before, until = (np.searchsorted(times, times_ns, side=side) for side in ("left", "right"))
    return np.where(before < until, values[until], UNKNOWN)


def latest_value(recording: Recording, name: str, device: int) -> int | None:
    """The last value of a counter on a device, None if it was never read."""
    rows = counter_rows(recording, name, device)
    return int(recording.counters.value[rows[-1]]) if len(rows) else None


def fragments_at(recording: Recording, device: int, time_ns: int) -> Fragments | None:
    """The cache at the moment of an event, where the allocator's history was looked at then."""
    found = [value_at(recording, name, device, time_ns) for name in LayoutCounter]
    known = [value for value in found if value is not None]
    return Fragments(*known) if len(known) == len(found) else None
