"""Makes a Recording of a snapshot, so that every view works on it."""

from pathlib import PurePath
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vramscope.allocator.exported import history_of
from vramscope.allocator.moment import CUBLAS_WORKSPACE, Evidence, PartKind
from vramscope.allocator.replay import Replay
from vramscope.allocator.snapshot.model import UNKNOWN, Action, Hint, Snapshot, Stacks, Trace
from vramscope.recording.recording import (
    NO_SCOPE,
    Counters,
    Device,
    Events,
    Integers,
    MarkKind,
    Marks,
    Recording,
    ScopeKind,
    Scopes,
    Seeds,
    Source,
)

Table = TypeVar("Table", Scopes, Seeds)


class _Strings:
    """The string table while it grows; 0 is the empty string."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def table(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def import_snapshot(snapshot: Snapshot, replays: dict[int, Replay] | None = None) -> Recording:
    """The snapshot as a recording.

    Blocks alive before a trace become seeds. Every allocation and free is an event at its recorded address; a free
    counts when it is requested, which is when the allocator's own total falls. Block sizes and totals are those of
    the replay, so they are the allocator's own where it is exact; anything else is noted and leaves the recording
    incomplete. The innermost Python frame is an event's scope, its callers the scope's
    parents. Library workspaces are marked.

    Args:
        snapshot: what was read.
        replays: by device, where they are already at hand.
    """
    # views take the first device for the main one, so those without a history come last
    devices = sorted(snapshot.devices, key=lambda device: len(snapshot.traces[device]) == 0)
    replayed = [(replays or {}).get(device) or history_of(snapshot, device) for device in devices]
    strings = _Strings()
    scopes, scope_of_stack = _scope_tree(snapshot.stacks, strings)
    events = _events(snapshot, replayed, scope_of_stack)
    notes = snapshot.marks + tuple(_notes(snapshot, replayed))
    return Recording(
        source=Source.SNAPSHOT,
        scopes=_with_times(scopes, events),
        events=events,
        marks=Marks.concatenate([_workspace_marks(snapshot, r, index, strings) for index, r in enumerate(replayed)]),
        counters=Counters.from_rows([]),
        seeds=Seeds.concatenate([_seeds(r, index) for index, r in enumerate(replayed)]),
        strings=strings.table(),
        devices=tuple(_device(snapshot, r) for r in replayed),
        environment={"allocator_settings": snapshot.settings_text},
        workload={"name": PurePath(snapshot.name).name},
        notes=notes,
        complete=not notes,
    )


def _device(snapshot: Snapshot, replayed: Replay) -> Device:
    end = int(replayed.allocated[-1]) if len(replayed.allocated) else replayed.start_allocated
    origin = "from a snapshot that vramscope exported" if snapshot.exported_from else "from a CUDA memory snapshot"
    return Device(snapshot.device_name(replayed.device), origin, replayed.start_allocated, end)


def _notes(snapshot: Snapshot, replays: list[Replay]) -> list[str]:
    notes = []
    for replayed in replays:
        name, matched, total = snapshot.device_name(replayed.device), replayed.matched, replayed.allocations
        notes += [f"{name}: {mark}" for mark in replayed.marks]
        if matched < total:
            notes.append(f"{name}: {matched} of {total} allocations replay at the recorded address")
    return notes


def _scope_tree(stacks: Stacks, strings: _Strings) -> tuple[Scopes, Integers]:
    """One scope per distinct chain of frames, and each stack's innermost scope."""
    rows: dict[tuple[int, int], int] = {}
    scope_of_stack = np.full(len(stacks.stacks), NO_SCOPE, np.int64)
    for number, stack in enumerate(stacks.stacks):
        scope = NO_SCOPE
        for frame in reversed(stack.frames):
            scope = rows.setdefault((scope, frame), len(rows))
        scope_of_stack[number] = scope
    names = [strings.number(f"{f.file}|{f.function}") for f in stacks.frames]
    chains = np.array(list(rows), np.int64).reshape(len(rows), 2)
    frames = chains[:, 1]
    tree = _table(
        Scopes,
        parent=chains[:, 0].copy(),
        kind=np.full(len(rows), ScopeKind.PYTHON_FRAME, np.int64),
        name=np.array(names, np.int64)[frames],
        value=np.array([frame.line for frame in stacks.frames], np.int64)[frames],
    )
    return tree, scope_of_stack


def _table(table: type[Table], /, **known: Integers) -> Table:
    """A table of which a snapshot knows only some columns (no threads, for one): the others stay unknown."""
    count = len(next(iter(known.values())))
    return table(**{name: known.get(name, np.full(count, UNKNOWN, np.int64)) for name in table.column_names()})


def _events(snapshot: Snapshot, replays: list[Replay], scope_of_stack: Integers) -> Events:
    """The events of all devices by time; within a device the trace's order is kept."""
    parts = [_device_events(snapshot, r, index, scope_of_stack) for index, r in enumerate(replays)]
    events = Events.concatenate(parts)
    return events.take(np.argsort(events.time_ns, kind="stable")) if len(parts) > 1 else events


def _device_events(snapshot: Snapshot, replayed: Replay, index: int, scope_of_stack: Integers) -> Events:
    trace = snapshot.traces[replayed.device]
    rows = np.flatnonzero(replayed.block_size)
    sign = np.where(trace.action[rows] == Action.ALLOC, 1, -1)
    time_us = trace.time_us if (trace.time_us != UNKNOWN).all() else np.arange(len(trace))
    return Events(
        # threads stamp an entry before they queue for the lock: a few run backwards by microseconds
        time_ns=np.maximum.accumulate(time_us)[rows] * 1000,
        address=trace.address[rows],
        size=replayed.block_size[rows] * sign,
        requested=trace.size[rows] * sign,
        device=np.full(len(rows), index, np.int64),
        scope=scope_of_stack[trace.stack[rows]],
        total=replayed.allocated[rows],
        reserved=replayed.reserved[rows],
    )


def _seeds(replayed: Replay, index: int) -> Seeds:
    """The blocks allocated at the start; those that only wait for a stream count as allocated no more."""
    blocks = [block for block in replayed.start.blocks if not block.pending]
    return _table(
        Seeds,
        address=np.array([block.address for block in blocks], np.int64),
        size=np.array([block.size for block in blocks], np.int64),
        requested=np.array([block.requested for block in blocks], np.int64),
        device=np.full(len(blocks), index, np.int64),
    )


def _with_times(scopes: Scopes, events: Events) -> Scopes:
    """Let each scope last from its first to its last event, its callers' included."""
    start = np.full(len(scopes), np.iinfo(np.int64).max)
    end = np.zeros(len(scopes), np.int64)
    inside = events.scope != NO_SCOPE
    np.minimum.at(start, events.scope[inside], events.time_ns[inside])
    np.maximum.at(end, events.scope[inside], events.time_ns[inside])
    for scope in range(len(scopes) - 1, -1, -1):
        parent = scopes.parent[scope]
        if parent != NO_SCOPE:
            start[parent] = min(start[parent], start[scope])
            end[parent] = max(end[parent], end[scope])
    start = np.minimum(start, end)  # frames of final blocks alone have no event
    columns = {name: getattr(scopes, name) for name in Scopes.column_names()}
    return Scopes(**{**columns, "start_ns": start, "end_ns": end})


def _workspace_marks(snapshot: Snapshot, replayed: Replay, index: int, strings: _Strings) -> Marks:
    """A mark for every library workspace: at the start for those alive then, else at its allocation.

    None in an export: its frames are not those that a library's workspace is known by.
    """
    if snapshot.exported_from:
        return Marks.from_rows([])
    evidence = Evidence(snapshot, replayed.device, replayed.start)
    trace = snapshot.traces[replayed.device]
    found = [(-1, b.address, b.size or 0, evidence.kind_of(b.requested, b.stack, None)) for b in replayed.start.blocks]
    for entry in np.flatnonzero((trace.action == Action.ALLOC) & _may_be_workspace(snapshot, trace)).tolist():
        judged = evidence.kind_of(int(trace.size[entry]), int(trace.stack[entry]), entry)
        found.append((entry, int(trace.address[entry]), int(replayed.block_size[entry]), judged))
    rows: list[tuple[int, ...]] = []
    for entry, address, size, (kind, known_from) in found:
        if kind is PartKind.WORKSPACE and size:
            name = strings.number(f"library workspace, known from {known_from}")
            time_ns = max(evidence.time_us(entry), 0) * 1000
            rows.append((time_ns, address, MarkKind.LIBRARY_WORKSPACE, name, 0, size, index))
    return Marks.from_rows(rows)


def _may_be_workspace(snapshot: Snapshot, trace: Trace) -> npt.NDArray[np.bool_]:
    """Entries worth a closer look: a library in the stack, or the size of a known workspace."""
    hinted = np.array([bool(stack.hints & (Hint.CUBLAS | Hint.CUDNN)) for stack in snapshot.stacks.stacks])
    return np.asarray(hinted[trace.stack] | (trace.size == CUBLAS_WORKSPACE))
