"""The allocator's own running total, and what torch reports beside it or wrongly.

Two things stand in the CPU allocator's stream that its total does not tell rightly (torch 2.13):

- Memory that is mapped instead of allocated, shared with a DataLoader's workers or read from a file in place, comes
  with a total of 0, because no allocator counts it (aten/src/ATen/MapAllocator.cpp).
- Sizes are remembered only while a profiler runs (c10/core/CPUAllocator.cpp): of a block that took the place of one
  freed between two profiles, the end is reported with the former one's size. The live object told the real one.
"""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.blocks import BEFORE, Blocks, Flags
from vramscope.recording.recording import Integers, Recording


@dataclass(frozen=True)
class RunningTotal:
    """What happened to one device's memory, event by event; bytes."""

    allocator: Integers
    """The allocator's own total after each event: at an event of mapped memory what it was before."""
    untold: Integers
    """What has come and gone by then without being told in that total."""
    change: Integers
    """What each event really added or took."""


def running_total(recording: Recording, blocks: Blocks, device: int, rows: Integers) -> RunningTotal:
    """The totals after each of the event ``rows`` of a device."""
    size, total = recording.events.size[rows], recording.events.total[rows]
    if not recording.devices[device].is_cpu:
        return RunningTotal(total, np.zeros(len(rows), dtype=np.int64), size)
    block, start = blocks.of_event[rows], recording.devices[device].start_total
    is_older = blocks.birth[block] == BEFORE
    is_mapped = _born_mapped(blocks.birth[block], rows[(size > 0) & (total == 0)], len(blocks.of_event))
    may_be_mapped = (size < 0) & (total == 0) & is_older
    before = _filled(total, is_mapped | may_be_mapped, start)
    # the end of an older block at which the total is said to be 0 while the allocator still holds something
    is_mapped |= may_be_mapped & (before + size != 0)
    change = np.where(is_older, -blocks.size[block], size)
    untold = np.cumsum(np.where(is_mapped, change, change - size))
    return RunningTotal(_filled(total, is_mapped, start), untold, change)


def _born_mapped(birth: Integers, mapped: Integers, count: int) -> Flags:
    """Events of blocks whose mapping was seen: no allocator's total is 0 just after it has given something out."""
    is_mapping = np.zeros(count + 1, dtype=np.bool_)  # the last one for `BEFORE`
    is_mapping[mapped] = True
    born: Flags = is_mapping[birth]
    return born


def _filled(total: Integers, is_mapped: Flags, start: int) -> Integers:
    """The total, at rows that say nothing of it the one before."""
    last_told = np.maximum.accumulate(np.where(is_mapped, -1, np.arange(len(total))))
    filled: Integers = np.append(total, start)[last_told]
    return filled
