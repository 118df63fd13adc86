"""Leaving out the devices that a recording watched and nobody used."""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from vramscope.recording.recording import Counters, Events, Marks, Recording, Seeds

Table = TypeVar("Table", Events, Marks, Counters, Seeds)
_MAIN_DEVICE = 0


def without_idle_devices(recording: Recording) -> Recording:
    """The recording without devices that have no block: the main one and the CPU stay in any case."""
    count = len(recording.devices)
    used = np.zeros(count, dtype=np.bool_)
    used[recording.events.device] = True
    used[recording.seeds.device] = True
    used |= np.array([number == _MAIN_DEVICE or d.name == "cpu" for number, d in enumerate(recording.devices)])
    if used.all():
        return recording
    numbers = np.cumsum(used) - 1

    def kept(table: Table) -> Table:
        rows = table.take(used[table.device])
        return replace(rows, device=numbers[rows.device])

    return replace(
        recording,
        events=kept(recording.events),
        marks=kept(recording.marks),
        counters=kept(recording.counters),
        seeds=kept(recording.seeds),
        devices=tuple(device for device, stays in zip(recording.devices, used.tolist(), strict=True) if stays),
    )
