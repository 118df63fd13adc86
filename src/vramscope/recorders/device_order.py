"""Which devices a recording tells of, and in which order: the main one first, and none that nobody used."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from vramscope.recording.recording import UNKNOWN, Counters, Events, Marks, Recording, Seeds

Table = TypeVar("Table", Events, Marks, Counters, Seeds)
_MAIN_DEVICE = 0


def without_idle_devices(recording: Recording) -> Recording:
    """The recording without devices that have no block: the main one and the CPU stay in any case."""
    used = {*np.unique(recording.events.device).tolist(), *np.unique(recording.seeds.device).tolist(), _MAIN_DEVICE}
    return _of_devices(recording, [n for n, d in enumerate(recording.devices) if n in used or d.name == "cpu"])


def with_main_device(recording: Recording, name: str) -> Recording:
    """The recording with the device of this name as its main one, if it has it."""
    names = [device.name for device in recording.devices]
    if name not in names:
        return recording
    return _of_devices(recording, sorted(range(len(names)), key=lambda number: names[number] != name))


def _of_devices(recording: Recording, wanted: Sequence[int]) -> Recording:
    """The recording of these of its devices, in this order."""
    if list(wanted) == list(range(len(recording.devices))):
        return recording
    numbers = np.full(len(recording.devices), UNKNOWN, dtype=np.int64)
    numbers[wanted] = np.arange(len(wanted))

    def renumbered(table: Table) -> Table:
        rows = table.take(numbers[table.device] != UNKNOWN)
        return replace(rows, device=numbers[rows.device])

    return replace(
        recording,
        events=renumbered(recording.events),
        marks=renumbered(recording.marks),
        counters=renumbered(recording.counters),
        seeds=renumbered(recording.seeds),
        devices=tuple(recording.devices[number] for number in wanted),
    )
