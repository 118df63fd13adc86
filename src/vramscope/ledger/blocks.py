"""Pairing events into blocks: one allocation's life, from the event that made it to the event that freed it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vramscope.recording.recording import NO_SCOPE, UNKNOWN, Events, Integers, Recording

Flags = npt.NDArray[np.bool_]

BEFORE = -1
"""Birth of a block that was alive when the recording began."""


@dataclass(frozen=True)
class Blocks:
    """One row per block.

    ``birth`` and ``death`` are rows of the recording's events: `BEFORE` for a block older than the recording, the
    number of
    events for one that outlives it. ``size`` is what the allocator counts, ``requested`` what was asked for.
    """

    address: Integers
    size: Integers
    requested: Integers
    device: Integers
    birth: Integers
    death: Integers
    birth_scope: Integers
    death_scope: Integers
    of_event: Integers
    """For each event, the row of its block."""
    silent: Flags
    """Blocks older than the recording whose end no event tells of: the allocator's total did not change with it."""

    def __len__(self) -> int:
        return len(self.size)

    def alive_after(self, event: int) -> Flags:
        """Which blocks are alive just after ``event``; `BEFORE` asks for the beginning."""
        return (self.birth <= event) & (self.death > event)


def pair_events(recording: Recording) -> Blocks:
    """Every block of a recording.

    A free whose allocation was not seen belongs to a seeded block at that address, or else to a block that was alive
    before
    the recording began and that nobody knew of.
    """
    events, seeds = recording.events, recording.seeds
    count = len(events)
    # Seeds stand before all events, as allocations: then one rule pairs everything.
    address = np.concatenate([seeds.address, events.address])
    device = np.concatenate([seeds.device, events.device])
    size = np.concatenate([seeds.size, events.size])
    row = np.concatenate([np.full(len(seeds), BEFORE, dtype=np.int64), np.arange(count, dtype=np.int64)])
    order = np.lexsort((np.arange(len(row)), address, device))
    same_place = (address[order][1:] == address[order][:-1]) & (device[order][1:] == device[order][:-1])
    is_birth = size[order] > 0
    rows = row[order]
    freed_next = np.append(same_place & is_birth[:-1] & ~is_birth[1:], False)
    opened_before = np.append(False, freed_next[:-1])
    first = is_birth | ~opened_before  # a row that begins a block: an allocation, or a free without one
    begins = np.flatnonzero(first)
    lone_free = ~is_birth[begins]
    birth = np.where(lone_free, BEFORE, rows[begins])
    following = np.append(rows, count)[begins + 1]
    death = np.where(lone_free, rows[begins], np.where(freed_next[begins], following, count))
    # A seed whose place was given away, or that was found gone, ended without an event.
    given_away = np.append(same_place, False)[begins] & ~freed_next[begins]
    silent = (birth == BEFORE) & ~lone_free & ~freed_next[begins]
    found_gone = np.append(_rows_at(recording, seeds.gone_ns), np.full(count, count))[order][begins]
    death = np.where(silent, np.minimum(found_gone, np.where(given_away, following, count)), death)
    numbers = np.cumsum(first) - 1
    of_event = np.empty(count, dtype=np.int64)
    is_event = rows >= 0
    of_event[rows[is_event]] = numbers[is_event]
    requested = np.concatenate([seeds.requested, events.requested])[order][begins]
    sizes = np.abs(size[order][begins])
    return Blocks(
        address=address[order][begins],
        size=sizes,
        requested=np.where(requested == UNKNOWN, sizes, np.abs(requested)),
        device=device[order][begins],
        birth=birth,
        death=death,
        birth_scope=_scope_at(events, birth),
        death_scope=np.where(silent, NO_SCOPE, _scope_at(events, death)),
        of_event=of_event,
        silent=silent & (death < count),
    )


def _rows_at(recording: Recording, time_ns: Integers) -> Integers:
    """The first event after each time, the number of events for `UNKNOWN`."""
    rows = np.searchsorted(recording.events.time_ns, time_ns, side="right")
    return np.where(time_ns == UNKNOWN, len(recording.events), rows)


def _scope_at(events: Events, rows: Integers) -> Integers:
    """The scopes of events, `NO_SCOPE` for rows outside the recording."""
    inside = (rows >= 0) & (rows < len(events))
    scopes = np.full(len(rows), NO_SCOPE, dtype=np.int64)
    scopes[inside] = events.scope[rows[inside]]
    return scopes
