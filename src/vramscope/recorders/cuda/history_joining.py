"""Joining the allocator's history to a recording of the same run: requests, stacks, workspaces, segments, failures.

An allocation of the recording is the one of the history that has the same address and comes at the same place among
those of that address. Where the two differ in their number, as when threads that no profiler watches allocate too,
nothing is joined there, and a note says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vramscope.allocator.moment import Evidence, Layout, look_at
from vramscope.allocator.replay import pass_until, replay
from vramscope.allocator.snapshot.model import Action, Snapshot, Trace
from vramscope.errors import VramscopeError
from vramscope.recorders.counters import with_counters
from vramscope.recorders.cuda.stacks import with_stacks
from vramscope.recorders.cuda.workspaces import Workspace, with_workspaces
from vramscope.recorders.line_joining import places
from vramscope.recording.counters import FailureCounter, LayoutCounter
from vramscope.recording.recording import UNKNOWN, Integers, Recording, ScopeKind

_CUDA = "cuda:"
_MOST_LAYOUTS = 8
NO_ENTRY = -1


@dataclass(frozen=True)
class _Joined:
    """One GPU of a recording: its number there, its index in the history, and each event's trace entry or `NO_ENTRY`.

    ``rows`` are the rows of the device's events.
    """

    number: int
    index: int
    trace: Trace
    rows: Integers
    entries: Integers

    @property
    def missing(self) -> int:
        """Events without an entry."""
        return int(np.count_nonzero(self.entries == NO_ENTRY))


def with_history(recording: Recording, snapshot: Snapshot, workspaces: Mapping[str, Sequence[Workspace]]) -> Recording:
    """The recording with what the history knows besides.

    Args:
        recording: of the profiler's events.
        snapshot: the history of the same stretch.
        workspaces: of libraries, by device name.
    """
    joined = [device for device in _devices(recording, snapshot) if len(device.rows)]
    recording = _with_requests(recording, joined)
    recording = with_workspaces(recording, workspaces)
    for device in joined:
        recording = _with_failures(recording, device)
        recording = _with_layouts(recording, snapshot, device)
    stack = np.full(len(recording.events), 0, dtype=np.int64)
    for device in joined:
        known = device.entries != NO_ENTRY
        stack[device.rows[known]] = device.trace.stack[device.entries[known]]
    recording = with_stacks(recording, stack, snapshot.stacks)
    return recording.with_notes(*_remarks(recording, joined))


def _devices(recording: Recording, snapshot: Snapshot) -> Iterator[_Joined]:
    for number, device in enumerate(recording.devices):
        index = int(device.name.removeprefix(_CUDA)) if device.name.startswith(_CUDA) else len(snapshot.traces)
        if index >= len(snapshot.traces):
            continue
        trace = snapshot.traces[index]
        rows = np.flatnonzero(recording.events.device == number)
        entries = np.full(len(rows), NO_ENTRY, dtype=np.int64)
        for is_birth, action in ((True, Action.ALLOC), (False, Action.FREE_REQUESTED)):
            ours = np.flatnonzero((recording.events.size[rows] > 0) == is_birth)
            theirs = np.flatnonzero(trace.action == action)
            partner = _partners(recording.events.address[rows[ours]], trace.address[theirs])
            entries[ours] = np.append(theirs, NO_ENTRY)[partner]
        yield _Joined(number, index, trace, rows, entries)


def _partners(ours: Integers, theirs: Integers) -> Integers:
    """For each of our addresses the place of its partner among theirs, -1 where the two differ in their number."""
    if not len(ours) or not len(theirs):
        return np.full(len(ours), -1, dtype=np.int64)
    _, key = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    own, other = key[: len(ours)], key[len(ours) :]
    own_count, other_count = (np.bincount(keys, minlength=int(key.max()) + 1) for keys in (own, other))
    first = np.cumsum(other_count) - other_count
    sure = own_count[own] == other_count[own]
    partner = np.full(len(ours), -1, dtype=np.int64)
    partner[sure] = np.argsort(other, kind="stable")[(first[own] + places(own, own_count))[sure]]
    return partner


def _with_requests(recording: Recording, joined: list[_Joined]) -> Recording:
    """Allocations with what was asked for; a history that contradicts the block's size is not believed."""
    requested = recording.events.requested.copy()
    for device in joined:
        births = (device.entries != NO_ENTRY) & (recording.events.size[device.rows] > 0)
        rows, asked = device.rows[births], device.trace.size[device.entries[births]]
        possible = asked <= recording.events.size[rows]
        requested[rows[possible]] = asked[possible]
    return replace(recording, events=replace(recording.events, requested=requested))


def _with_failures(recording: Recording, device: _Joined) -> Recording:
    """Failed allocations with the exact request and the device's free memory, where both sides know as many."""
    counters = recording.counters
    asked, available, rounded = (_rows_of(recording, name, device.number) for name in FailureCounter)
    failed = np.flatnonzero(device.trace.action == Action.OOM)
    if len(failed) != len(asked) or len(failed) != len(available):
        return recording
    value = counters.value.copy()
    value[asked] = device.trace.size[failed]
    # an entry of this kind has the device's free memory where others have an address
    told = device.trace.address[failed]
    value[available] = np.where(told >= 0, told, value[available])
    value[rounded] = 0
    return replace(recording, counters=replace(counters, value=value))


def _rows_of(recording: Recording, name: str, device: int) -> Integers:
    """The counters of a name and device, by time."""
    counters = recording.counters
    number = recording.strings.index(name) if name in recording.strings else -1
    rows = np.flatnonzero((counters.name == number) & (counters.device == device))
    return rows[np.argsort(counters.time_ns[rows], kind="stable")]


def _with_layouts(recording: Recording, snapshot: Snapshot, device: _Joined) -> Recording:
    """How the segments lay at each step's highest moment, and when an allocation failed."""
    moments = [*_peaks(recording, device), *_failures(recording, device)][-_MOST_LAYOUTS:]
    if not moments:
        return recording
    try:
        replayed = replay(snapshot, device.index)
    except VramscopeError as error:
        return recording.with_notes(f"fragmentation is not known: {error}")
    evidence = Evidence(snapshot, device.index, replayed.start)
    if not replayed.exact:
        recording = recording.with_notes("the allocator's history does not replay exactly: fragmentation may be off")
    for time_ns, entry in moments:
        layout = look_at(pass_until(snapshot, replayed, entry), entry, evidence).layout
        recording = _with_layout(recording, time_ns, device.number, layout)
    return recording


def _peaks(recording: Recording, device: _Joined) -> Iterator[tuple[int, int]]:
    """Time and entry of the first highest total of every step, or of the whole where there is no step."""
    events, scopes = recording.events, recording.scopes
    steps = np.flatnonzero(scopes.kind == ScopeKind.STEP)
    stretches = [(int(scopes.start_ns[row]), int(scopes.end_ns[row])) for row in steps] or [(0, 2**62)]
    times = events.time_ns[device.rows]
    for start, end in stretches:
        first, last = np.searchsorted(times, (start, end))
        if first < last:
            top = int(first + np.argmax(events.total[device.rows[first:last]]))
            if device.entries[top] != NO_ENTRY:
                yield int(times[top]), int(device.entries[top])


def _failures(recording: Recording, device: _Joined) -> Iterator[tuple[int, int]]:
    """Time and entry of every failure; the last event before it is too early: meanwhile the cache is given back."""
    asked = _rows_of(recording, FailureCounter.ASKED, device.number)
    entries = np.flatnonzero(device.trace.action == Action.OOM)
    if len(asked) == len(entries):
        yield from zip(recording.counters.time_ns[asked].tolist(), entries.tolist(), strict=True)


def _with_layout(recording: Recording, time_ns: int, device: int, layout: Layout) -> Recording:
    values = {
        LayoutCounter.RELEASABLE: layout.releasable,
        LayoutCounter.STUCK: layout.stuck,
        LayoutCounter.PENDING: layout.pending,
        LayoutCounter.LARGEST_FREE: layout.largest_free,
        LayoutCounter.SEGMENTS: layout.segments,
    }
    return with_counters(recording, [(time_ns, name, device, value) for name, value in values.items()])


def _remarks(recording: Recording, joined: list[_Joined]) -> Iterator[str]:
    for device in joined:
        if device.missing:
            name = recording.devices[device.number].name
            yield (
                f"{name}: {device.missing} of {len(device.rows)} events are not told apart in the allocator's history "
                "(other threads allocate too), so their requested bytes and Python stacks are not known"
            )
    births = np.isin(recording.events.device, [device.number for device in joined]) & (recording.events.size > 0)
    unknown = int(np.count_nonzero(births & (recording.events.requested == UNKNOWN)))
    if unknown and not any(device.missing for device in joined):
        yield f"{unknown} allocations asked for more than their blocks hold, by the allocator's history: not believed"
