"""Joining Python lines to the main run: tracing lines slows a run down, so a run of its own has seen them.

An allocation of one run is that of the other which has the same step, phase, chain of modules and operators, device and
size, and comes at the same place among those. No allocation gets a line that could be another one's.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vramscope.recording.recording import UNKNOWN, Integers, Recording, ScopeKind, Scopes

Flags = npt.NDArray[np.bool_]
Frame = tuple[str, int]
"""``file|function`` and line."""
NO_FRAME = -1


@dataclass
class _Numbers:
    """Gives equal things equal numbers, across both runs; the first thing is 1."""

    known: dict[Hashable, int] = field(default_factory=dict)

    def number(self, thing: Hashable) -> int:
        """The number of a thing."""
        return self.known.setdefault(thing, len(self.known) + 1)


class _Join(NamedTuple):
    """What was found for the items of the main run, and which items of either run had no partner."""

    frame: Integers
    missing: Flags
    unclear: Flags
    extra: Flags


def with_lines(main: Recording, lines_recording: Recording) -> Recording:
    """The main run's recording with the Python lines that another run of the same pass has recorded.

    Every allocation with a line gets a scope of kind ``PYTHON_FRAME`` as its innermost one; an operator whose line was
    recorded without an allocation gets one below it.

    Args:
        main: the recording that everything else is read from.
        lines_recording: the same pass, recorded with lines.
    """
    numbers, frames = _Numbers(), _Numbers()
    ours, theirs = _Run.of(main, numbers), _Run.of(lines_recording, numbers)
    frame_of_scope = _frames(lines_recording, frames)
    allocations = _join(
        ours.allocation_keys, theirs.allocation_keys, frame_of_scope[lines_recording.events.scope[theirs.allocations]]
    )
    begun_in = _frames_below(lines_recording, frame_of_scope)[theirs.operators]
    operators = _join(ours.operator_keys, theirs.operator_keys, begun_in)
    table: Sequence[Frame] = list(frames.known)  # type: ignore[arg-type]  # only frames were numbered there
    joined = _with_operator_frames(main, ours.operators, operators.frame, table)
    joined = _with_event_frames(joined, ours.allocations, allocations.frame, table)
    sizes = main.events.size[ours.allocations], lines_recording.events.size[theirs.allocations]
    return joined.with_notes(*_remarks(*sizes, allocations, bool(table)))


# -- what identifies an allocation or an operator ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What of one run is looked for in the other, in order of time."""

    allocations: Integers
    """[n] rows of events."""
    allocation_keys: Integers
    """[n, 5]: step, phase, chain of scopes, device and size."""
    operators: Integers
    """[m] rows of scopes."""
    operator_keys: Integers
    """[m, 3]: step, phase and chain of scopes."""

    @classmethod
    def of(cls, recording: Recording, numbers: _Numbers) -> Self:
        """The allocations and numbered operators of a recording with their keys."""
        events, scopes, chains = recording.events, recording.scopes, _chains(recording, numbers)
        rows, operators = np.flatnonzero(events.size > 0), _numbered_operators(recording)
        moments = _moments(recording, events.time_ns[rows], numbers)
        keys = np.stack([*moments, chains[events.scope[rows]], events.device[rows], events.size[rows]], axis=1)
        moments = _moments(recording, scopes.start_ns[operators], numbers)
        return cls(rows, keys, operators, np.stack([*moments, chains[operators]], axis=1))


def _chains(recording: Recording, numbers: _Numbers) -> Integers:
    """A number for the names from the root down to each scope, Python frames left out; the last place is "no scope"."""
    scopes = recording.scopes
    chains = [0] * (len(scopes) + 1)
    columns = zip(scopes.parent.tolist(), scopes.kind.tolist(), scopes.name.tolist(), strict=True)
    for row, (parent, kind, name) in enumerate(columns):
        above = chains[parent]
        is_frame = kind == ScopeKind.PYTHON_FRAME
        chains[row] = above if is_frame else numbers.number((above, kind, recording.strings[name]))
    return np.array(chains, dtype=np.int64)


def _moments(recording: Recording, time_ns: Integers, numbers: _Numbers) -> tuple[Integers, Integers]:
    """For each time a number for the step and one for the innermost phase around it, 0 for none."""
    order = np.argsort(time_ns, kind="stable")
    found = []
    for kind in (ScopeKind.STEP, ScopeKind.PHASE):
        scopes = recording.scopes.take(recording.scopes.kind == kind)
        scopes = scopes.take(np.lexsort((-scopes.end_ns, scopes.start_ns)))
        first = np.searchsorted(time_ns[order], scopes.start_ns, side="left")
        last = np.searchsorted(time_ns[order], scopes.end_ns, side="right")
        period = np.zeros(len(time_ns), dtype=np.int64)
        for row in range(len(scopes)):  # an inner period comes after its outer one and overwrites it
            identity = (kind, recording.strings[scopes.name[row]], int(scopes.value[row]))
            period[order[first[row] : last[row]]] = numbers.number(identity)
        found.append(period)
    return found[0], found[1]


def _numbered_operators(recording: Recording) -> Integers:
    """The operators, in order, that may have made a backward node: their lines serve what the node allocates."""
    scopes = recording.scopes
    rows = np.flatnonzero((scopes.kind == ScopeKind.OPERATOR) & (scopes.sequence >= 0))
    return rows[np.argsort(scopes.start_ns[rows], kind="stable")]


# -- the frames of the run with lines ----------------------------------------------------------------------------------


def _frames(recording: Recording, frames: _Numbers) -> Integers:
    """For each scope the place of its frame among ``frames``, `NO_FRAME` for others; the last place is "no scope"."""
    scopes = recording.scopes
    found = np.full(len(scopes) + 1, NO_FRAME, dtype=np.int64)
    for row in np.flatnonzero(scopes.kind == ScopeKind.PYTHON_FRAME).tolist():
        found[row] = frames.number((recording.strings[scopes.name[row]], int(scopes.value[row]))) - 1
    return found


def _frames_below(recording: Recording, frame_of_scope: Integers) -> Integers:
    """For each scope the frame directly below it that no event has: the line in which an operator began."""
    scopes = recording.scopes
    lone = scopes.kind == ScopeKind.PYTHON_FRAME
    lone[recording.events.scope[recording.events.scope >= 0]] = False
    rows = np.flatnonzero(lone & (scopes.parent >= 0))[::-1]  # backwards: the first of several stays
    found = np.full(len(scopes) + 1, NO_FRAME, dtype=np.int64)
    found[scopes.parent[rows]] = frame_of_scope[rows]
    return found


# -- the join ----------------------------------------------------------------------------------------------------------


def _join(ours: Integers, theirs: Integers, frames: Integers) -> _Join:
    """Match items by key and by their place among equal keys, both in order of time.

    Where the runs differ in the number of a key, places mean nothing any more: then a frame is taken only if the other
    run has more of that key, and all in the same frame.

    Args:
        ours: [n, k] keys of the main run.
        theirs: [m, k] keys of the other run.
        frames: [m] frames of the other run.
    """
    key = _row_numbers(np.concatenate([ours, theirs]))
    own_key, their_key = key[: len(ours)], key[len(ours) :]
    count = len(key)  # as many places as there can be keys
    own_count, their_count = (np.bincount(keys, minlength=count) for keys in (own_key, their_key))
    own_place = places(own_key, own_count)
    paired = own_place < their_count[own_key]
    certain = (own_count == their_count) | ((own_count < their_count) & _one_frame(their_key, frames, count))
    clear = certain[own_key]
    first = np.cumsum(their_count) - their_count
    partner = np.argsort(their_key, kind="stable")[(first[own_key] + own_place)[paired & clear]]
    frame = np.full(len(ours), NO_FRAME, dtype=np.int64)
    frame[paired & clear] = frames[partner]
    extra = places(their_key, their_count) >= own_count[their_key]
    return _Join(frame, ~paired, paired & ~clear, extra)


def _row_numbers(table: Integers) -> Integers:
    """Equal numbers for equal rows, column by column: several times faster than sorting rows as wholes."""
    numbers = np.zeros(len(table), dtype=np.int64)
    for column in table.T:
        distinct, dense = np.unique(column, return_inverse=True)
        _, numbers = np.unique(numbers * len(distinct) + dense, return_inverse=True)
    return numbers


def places(key: Integers, count: Integers) -> Integers:
    """How many items of the same key come before each item."""
    order = np.argsort(key, kind="stable")
    within = np.empty(len(key), dtype=np.int64)
    within[order] = np.arange(len(key)) - (np.cumsum(count) - count)[key[order]]
    return within


def _one_frame(key: Integers, frames: Integers, count: int) -> Flags:
    """For each key whether all its items have the same frame."""
    highest = np.full(count, np.iinfo(np.int64).min)
    lowest = np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(highest, key, frames)
    np.minimum.at(lowest, key, frames)
    same: Flags = lowest == highest
    return same


# -- what comes out ----------------------------------------------------------------------------------------------------


def _with_event_frames(recording: Recording, rows: Integers, frame: Integers, table: Sequence[Frame]) -> Recording:
    """The recording with the frames as innermost scopes of its events; events of one scope and line share theirs."""
    events = recording.events
    rows, frame = rows[frame >= 0], frame[frame >= 0]
    pairs = np.stack([events.scope[rows], frame], axis=1)
    unique, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    owner = events.scope.copy()
    owner[rows] = len(recording.scopes) + inverse.reshape(-1)
    recording = _with_frame_scopes(recording, unique[:, 0], unique[:, 1], events.time_ns[rows[first]], table)
    return replace(recording, events=replace(events, scope=owner))


def _with_operator_frames(recording: Recording, rows: Integers, frame: Integers, table: Sequence[Frame]) -> Recording:
    """The recording with frames below operators."""
    rows, frame = rows[frame >= 0], frame[frame >= 0]
    return _with_frame_scopes(recording, rows, frame, recording.scopes.start_ns[rows], table)


def _with_frame_scopes(
    recording: Recording, parent: Integers, frame: Integers, time_ns: Integers, table: Sequence[Frame]
) -> Recording:
    """The recording with scopes for frames below the scopes ``parent``, at moments without length."""
    scopes = recording.scopes
    names = [table[number][0] for number in frame.tolist()]
    known = set(recording.strings)
    new_strings = tuple(dict.fromkeys(name for name in names if name not in known))
    strings = recording.strings + new_strings
    numbers = {text: number for number, text in enumerate(strings)}
    added = Scopes(
        parent=parent,
        kind=np.full(len(parent), ScopeKind.PYTHON_FRAME, dtype=np.int64),
        name=np.array([numbers[name] for name in names], dtype=np.int64),
        start_ns=time_ns,
        end_ns=time_ns,
        thread=np.append(scopes.thread, 0)[parent],
        sequence=np.full(len(parent), UNKNOWN, dtype=np.int64),
        value=np.array([table[number][1] for number in frame.tolist()], dtype=np.int64),
    )
    return replace(recording, strings=strings, scopes=Scopes.concatenate([scopes, added]))


def _remarks(own_sizes: Integers, their_sizes: Integers, found: _Join, has_frames: bool) -> tuple[str, ...]:
    """What to say of allocations without a line that is certain."""
    if not has_frames:
        return ("source lines: the run that was to record them saw no Python line of the program",)
    parts = [
        (own_sizes[found.missing], "of this recording have no partner in the run that recorded lines"),
        (their_sizes[found.extra], "of that run have no partner here"),
        (own_sizes[found.unclear], "could be one of several lines, as the runs differ in their number"),
    ]
    said = [f"{len(sizes)} allocations ({int(sizes.sum())} bytes) {what}" for sizes, what in parts if len(sizes)]
    return (f"source lines: {'; '.join(said)}; what is not certain counts as (no Python frame)",) if said else ()
