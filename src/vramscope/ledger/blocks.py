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
    number of events for one that outlives it. ``size`` is what the allocator counts, ``requested`` what was asked for.
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
    gone_ns: Integers
    """When a block without such an event was found to be gone, be it after the last event; `UNKNOWN` for others."""
    lost: Flags
    """Blocks whose place was given out again without a free: freed on a thread that was not recorded. The allocator's
    own total still counts them, and so does the ledger."""

    def __len__(self) -> int:
        return len(self.size)

    def alive_after(self, event: int) -> Flags:
        """Which blocks are alive just after ``event``; `BEFORE` asks for the beginning."""
        return (self.birth <= event) & (self.death > event)


@dataclass(frozen=True)
class _Rows:
    """Seeds and events in the order of their places, and of time within a place: then one rule pairs everything.

    ``row`` is the event's row, `BEFORE` for a seed; seeds stand before all events, as allocations.
    """

    address: Integers
    device: Integers
    size: Integers
    requested: Integers
    row: Integers
    gone: Integers
    """For a seed the first event after it was found gone, else the number of events."""
    gone_ns: Integers
    """For a seed when it was found gone, else `UNKNOWN`."""

    @property
    def same_place(self) -> Flags:
        """Whether the next row is at the same place."""
        same = (self.address[1:] == self.address[:-1]) & (self.device[1:] == self.device[:-1])
        return np.append(same, False)


def _sorted_rows(recording: Recording) -> _Rows:
    events, seeds = recording.events, recording.seeds
    count = len(events)
    address = np.concatenate([seeds.address, events.address])
    device = np.concatenate([seeds.device, events.device])
    order = np.lexsort((np.arange(len(address)), address, device))
    row = np.concatenate([np.full(len(seeds), BEFORE, dtype=np.int64), np.arange(count, dtype=np.int64)])
    gone = np.concatenate([_rows_at(recording, seeds.gone_ns), np.full(count, count)])
    gone_ns = np.concatenate([seeds.gone_ns, np.full(count, UNKNOWN)])
    size = np.concatenate([seeds.size, events.size])
    requested = np.concatenate([seeds.requested, events.requested])
    return _Rows(*(column[order] for column in (address, device, size, requested, row, gone, gone_ns)))


def pair_events(recording: Recording) -> Blocks:
    """Every block of a recording.

    A free whose allocation was not seen belongs to a seeded block at that address, or else to a block that was alive
    before the recording began and that nobody knew of.
    """
    count = len(recording.events)
    rows = _sorted_rows(recording)
    is_birth = rows.size > 0
    freed_next = rows.same_place & is_birth & ~np.append(is_birth[1:], True)
    opened_before = np.append(False, freed_next[:-1])[: len(freed_next)]
    first = is_birth | ~opened_before  # a row that begins a block: an allocation, or a free without one
    begins = np.flatnonzero(first)
    lone_free, freed, reused = ~is_birth[begins], freed_next[begins], rows.same_place[begins] & ~freed_next[begins]
    birth = np.where(lone_free, BEFORE, rows.row[begins])
    following = np.append(rows.row, count)[begins + 1]
    # A seed whose place was given away, or that was found gone, ended without an event.
    silent = (birth == BEFORE) & ~lone_free & ~freed
    silent_end = np.minimum(rows.gone[begins], np.where(reused, following, count))
    death = np.where(freed, following, np.where(silent, silent_end, count))
    death = np.where(lone_free, rows.row[begins], death)
    sizes, requested = np.abs(rows.size[begins]), rows.requested[begins]
    return Blocks(
        address=rows.address[begins],
        size=sizes,
        requested=np.where(requested == UNKNOWN, sizes, np.abs(requested)),
        device=rows.device[begins],
        birth=birth,
        death=death,
        birth_scope=_scope_at(recording.events, birth),
        death_scope=np.where(silent, NO_SCOPE, _scope_at(recording.events, death)),
        of_event=_blocks_of_events(rows, first, count),
        silent=silent & (death < count),
        gone_ns=np.where(silent, rows.gone_ns[begins], UNKNOWN),
        lost=reused & ~lone_free & ~silent,
    )


def _blocks_of_events(rows: _Rows, first: Flags, count: int) -> Integers:
    numbers = np.cumsum(first) - 1
    of_event = np.empty(count, dtype=np.int64)
    is_event = rows.row >= 0
    of_event[rows.row[is_event]] = numbers[is_event]
    return of_event


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
