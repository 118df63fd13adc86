"""Counters that are added to a recording after its events were read out."""

from collections.abc import Iterable
from dataclasses import replace

from vramscope.recording.recording import Counters, Recording


def with_counters(recording: Recording, rows: Iterable[tuple[int, str, int, int]]) -> Recording:
    """The recording with further counters: time (ns), name, device number and value."""
    strings = {text: number for number, text in enumerate(recording.strings)}
    table = [(time_ns, strings.setdefault(name, len(strings)), device, value) for time_ns, name, device, value in rows]
    counters = Counters.concatenate([recording.counters, Counters.from_rows(table)])
    return replace(recording, strings=tuple(strings), counters=counters)
