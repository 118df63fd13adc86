"""From the profiler's event tree to the Recording's tables. Facts are renamed and numbered here, never judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._C._profiler import RecordScope, _EventType

from vramscope.errors import RecordingError
from vramscope.recorders.labels import Label
from vramscope.recorders.stamps import StampKind, parse
from vramscope.recorders.window import STAMP_PREFIX
from vramscope.recording.recording import (
    LOSS_SCOPE,
    NO_SCOPE,
    UNKNOWN,
    Events,
    Integers,
    MarkKind,
    Marks,
    ScopeKind,
    Scopes,
)

NODE_PREFIX = "autograd::engine::evaluate_function: "
"""How torch names the engine's evaluation of one backward node (torch/csrc/autograd/engine.cpp)."""
_COMPILED_PREFIXES = ("## Call CompiledFxGraph", "Torch-Compiled Region", "CompiledFunction")
_BOOKEND_BYTES = 1
_FAILURE = "[OutOfMemory]"
"""Name of an event whose type torch does not hand to Python (torch/csrc/profiler/collection.cpp)."""
WORKSPACE = "cuBLAS workspace"
_ScopeRow = tuple[int, int, int, int, int, int, int, int]


class StringTable:
    """Numbers strings in the order in which they first appear; the empty string is 0."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """The number of ``text``."""
        return self._numbers.setdefault(text, len(self._numbers))

    def strings(self) -> tuple[str, ...]:
        """All strings, by number."""
        return tuple(self._numbers)


@dataclass
class Tables:
    """The tables read out of one profiler window, in the order of the clock."""

    scopes: Scopes
    events: Events
    marks: Marks
    bookends: list[tuple[int, int]]
    """(time, allocator total without the bookend's own byte), at the start and at the end of the window."""
    seed_ends: dict[int, int]
    """When each seed that ended without an event was found gone, by the seed's number."""
    samples: dict[int, int]
    """When each sample of the devices was taken, by its number."""
    failures: list[int]
    """When allocations failed."""


@dataclass
class TreeReader:
    """Walks the tree once, collecting rows; parents come before children."""

    strings: StringTable
    devices: Mapping[str, int]
    scopes: list[_ScopeRow] = field(default_factory=list)
    events: list[tuple[int, ...]] = field(default_factory=list)
    stamps: list[tuple[int, str, str, int]] = field(default_factory=list)
    bookends: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[int, int]] = field(default_factory=list)
    """(time, scope) of allocations that found no memory."""
    workspaces: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(time, address, device, size) of what was freed as a library's workspace."""

    def read(self, roots: Sequence[Any]) -> None:
        """Collect the rows of every tree, without recursion: trees can be deeper than Python's stack."""
        pending = [(node, NO_SCOPE) for node in reversed(roots)]
        while pending:
            node, parent = pending.pop()
            tag = node.tag
            if tag == _EventType.Allocation:
                self._add_event(node, parent)
            elif tag == _EventType.TorchOp:
                own = self._add_scope(node, parent)
                if own is not None:
                    pending.extend((child, own) for child in reversed(node.children))
            elif node.name == _FAILURE:
                self.failures.append((node.start_time_ns, parent))
            else:
                pending.extend((child, parent) for child in reversed(node.children))

    def _add_event(self, node: Any, parent: int) -> None:
        facts = node.extra_fields
        size = facts.alloc_size
        device = self.devices.get(str(facts.device))
        if device is not None and size:
            # requested: the profiler's events carry the block's size only; on the CPU the two are the same
            requested = size if facts.device.type == "cpu" else UNKNOWN
            row = (node.start_time_ns, facts.ptr, size, requested, device, parent)
            self.events.append((*row, facts.total_allocated, facts.total_reserved))

    def _add_scope(self, node: Any, parent: int) -> int | None:
        name = node.name
        if name.startswith(STAMP_PREFIX):
            kind, argument = parse(name)
            if kind == StampKind.BOOKEND:
                self._add_bookend(node)
                return None
            if kind == StampKind.LOSS:
                return self._append(node, parent, ScopeKind.USER, LOSS_SCOPE, UNKNOWN)
            if kind == StampKind.RECORDING:
                return parent
            if kind == StampKind.WORKSPACES:
                self._add_workspaces(node)
                return parent
            if kind != StampKind.MODULE:
                self.stamps.append((node.start_time_ns, kind, argument, node.start_tid))
                return None
            return self._append(node, parent, ScopeKind.MODULE, argument, UNKNOWN)
        kind_of_scope, shown = _scope_kind(name, node.extra_fields.scope)
        is_call = kind_of_scope == ScopeKind.AUTOGRAD_NODE and not name.startswith(NODE_PREFIX)
        if is_call and self._is_node(parent):
            return parent  # the node's own call inside the engine's evaluation of it: one node, not two
        sequence = node.extra_fields.sequence_number
        return self._append(node, parent, kind_of_scope, shown, sequence if 0 <= sequence < 2**62 else UNKNOWN)

    def _is_node(self, scope: int) -> bool:
        return scope != NO_SCOPE and self.scopes[scope][1] == ScopeKind.AUTOGRAD_NODE

    def _append(self, node: Any, parent: int, kind: ScopeKind, name: str, sequence: int) -> int:
        times = (node.start_time_ns, node.end_time_ns)
        self.scopes.append((parent, kind, self.strings.number(name), *times, node.start_tid, sequence, 0))
        return len(self.scopes) - 1

    def _add_workspaces(self, node: Any) -> None:
        """Note what is freed in a scope that frees nothing but workspaces, as true when the scope begins."""
        for child in node.children:
            if child.tag == _EventType.Allocation and child.extra_fields.alloc_size < 0:
                facts = child.extra_fields
                device = self.devices.get(str(facts.device))
                if device is not None:
                    self.workspaces.append((node.start_time_ns, facts.ptr, device, -facts.alloc_size))

    def _add_bookend(self, node: Any) -> None:
        """Read the allocator's total from the one-byte allocation inside a bookend."""
        pending = [node]
        while pending:
            inner = pending.pop()
            if inner.tag == _EventType.Allocation and inner.extra_fields.alloc_size == _BOOKEND_BYTES:
                self.bookends.append((inner.start_time_ns, inner.extra_fields.total_allocated - _BOOKEND_BYTES))
                return
            pending.extend(inner.children)


def _scope_kind(name: str, scope: RecordScope) -> tuple[ScopeKind, str]:
    """The kind of a scope that is not ours, and the name to show for it."""
    if name.startswith(NODE_PREFIX):
        return ScopeKind.AUTOGRAD_NODE, name.removeprefix(NODE_PREFIX).removeprefix("torch::autograd::")
    if scope == RecordScope.BACKWARD_FUNCTION:
        return ScopeKind.AUTOGRAD_NODE, name.removeprefix("torch::autograd::")
    if name.startswith(_COMPILED_PREFIXES):
        return ScopeKind.COMPILED_GRAPH, name
    if scope == RecordScope.USER_SCOPE:
        return ScopeKind.USER, name
    return ScopeKind.OPERATOR, name


def convert(
    roots: Sequence[Any],
    strings: StringTable,
    devices: Sequence[torch.device],
    mark_batches: Sequence[Sequence[Label]],
    frames: Sequence[tuple[str, int]],
    read_with: Callable[[StringTable, Mapping[str, int]], TreeReader] = TreeReader,
) -> Tables:
    """Tables from an event tree.

    Args:
        roots: top-level nodes of ``experimental_event_tree()``.
        strings: the recording's string table, extended here.
        devices: the devices whose events are wanted, in the order in which the recording numbers them.
        mark_batches: the labels that stamp number k of kind MARKS stands for.
        frames: (``file|function``, line) that stamp number k of kind LINE stands for.
        read_with: makes what walks the tree.

    Raises:
        RecordingError: the window's bookends are missing: another profiler was started inside and took the events,
            or the window was closed on another thread.
    """
    numbers = {str(device): index for index, device in enumerate(devices)}
    reader = read_with(strings, numbers)
    reader.read(roots)
    if len(reader.bookends) < 2:
        raise RecordingError(
            "the profiler's events are gone: another torch.profiler was started inside this profile; "
            "profilers of one process do not nest, so run without the other one "
            "(or the profile was left on another thread than it was entered on)"
        )
    first, last = min(reader.bookends)[0], max(reader.bookends)[0]
    events = Events.from_rows(reader.events)
    events = events.take(np.argsort(events.time_ns, kind="stable"))
    events = events.take(
        (events.time_ns > first) & (events.time_ns < last)
    )  # the rest is our own starting and stopping
    stamps = sorted(reader.stamps, key=lambda row: row[0])
    scopes = _with_periods(Scopes.from_rows(reader.scopes), stamps, strings)
    scopes, events = _with_lines(scopes, events, stamps, frames, strings)
    failed_in = [scope for _, scope in reader.failures if scope != NO_SCOPE]
    scopes, events = _pruned(scopes, events, np.array(failed_in, dtype=np.int64))
    scopes = _with_operator_lines(scopes, stamps, frames, strings)
    marks = Marks.concatenate([_marks(stamps, mark_batches, strings, numbers), _workspaces(reader, strings)])
    samples = {int(argument): time_ns for time_ns, kind, argument, _ in stamps if kind == StampKind.SAMPLE}
    failures = sorted(time_ns for time_ns, _ in reader.failures if first < time_ns < last)
    return Tables(scopes, events, marks, sorted(reader.bookends), _seed_ends(stamps), samples, failures)


def _workspaces(reader: TreeReader, strings: StringTable) -> Marks:
    name = strings.number(WORKSPACE)
    rows = [
        (time_ns, address, MarkKind.LIBRARY_WORKSPACE, name, 0, size, device)
        for time_ns, address, device, size in reader.workspaces
    ]
    return Marks.from_rows(rows)


def _with_periods(scopes: Scopes, stamps: Sequence[tuple[int, str, str, int]], strings: StringTable) -> Scopes:
    """Add steps and phases, which are bounded by stamps rather than by scopes."""
    rows: list[list[int]] = []
    open_rows: list[int] = []
    begins = {StampKind.STEP_BEGIN: ScopeKind.STEP, StampKind.PHASE_BEGIN: ScopeKind.PHASE}
    for time_ns, kind, argument, thread in stamps:
        if kind in begins:
            is_step = kind == StampKind.STEP_BEGIN
            value, _, phase = argument.partition(" ")
            name = strings.number("step" if is_step else phase)
            parent = open_rows[-1] + len(scopes) if open_rows else NO_SCOPE
            open_rows.append(len(rows))
            rows.append([parent, begins[StampKind(kind)], name, time_ns, UNKNOWN, thread, UNKNOWN, int(value)])
        elif kind in (StampKind.STEP_END, StampKind.PHASE_END):
            ended = strings.number("step" if kind == StampKind.STEP_END else argument.partition(" ")[2])
            if any(rows[index][2] == ended for index in open_rows):
                _end(rows, open_rows, ended, time_ns)
    last = max((row[0] for row in stamps), default=0)
    for index in open_rows:  # a run that was interrupted
        rows[index][4] = last
    return Scopes.concatenate([scopes, Scopes.from_rows([tuple(row) for row in rows])])


def _end(rows: list[list[int]], open_rows: list[int], name: int, time_ns: int) -> None:
    """End the innermost open period of a name, and whatever was left open inside it."""
    while True:
        index = open_rows.pop()
        rows[index][4] = time_ns
        if rows[index][2] == name:
            return


def _with_lines(
    scopes: Scopes,
    events: Events,
    stamps: Sequence[tuple[int, str, str, int]],
    frames: Sequence[tuple[str, int]],
    strings: StringTable,
) -> tuple[Scopes, Events]:
    """Give each event the Python line that was running, as an innermost scope of its own."""
    lines = [(time_ns, int(argument)) for time_ns, kind, argument, _ in stamps if kind == StampKind.LINE]
    if not lines:
        return scopes, events
    times = np.array([time_ns for time_ns, _ in lines], dtype=np.int64)
    position = np.searchsorted(times, events.time_ns, side="right") - 1
    rows: list[_ScopeRow] = []
    known: dict[tuple[int, int], int] = {}
    owner = events.scope.copy()
    for row, where in enumerate(position.tolist()):
        frame = lines[where][1] if where >= 0 else UNKNOWN
        if frame < 0:
            continue
        key = (int(owner[row]), frame)
        if key not in known:
            known[key] = len(scopes) + len(rows)
            moment = int(events.time_ns[row])
            name = strings.number(frames[frame][0])
            rows.append((key[0], ScopeKind.PYTHON_FRAME, name, moment, moment, 0, UNKNOWN, frames[frame][1]))
        owner[row] = known[key]
    columns = {name: getattr(events, name) for name in Events.column_names()}
    return Scopes.concatenate([scopes, Scopes.from_rows(rows)]), Events(**{**columns, "scope": owner})


def _with_operator_lines(
    scopes: Scopes,
    stamps: Sequence[tuple[int, str, str, int]],
    frames: Sequence[tuple[str, int]],
    strings: StringTable,
) -> Scopes:
    """Give each forward operator that made a backward node the line on which it began, as a scope below it.

    Views and operators in place allocate nothing whose event could tell it, and yet their nodes allocate.
    """
    lines = [(time_ns, int(argument)) for time_ns, kind, argument, _ in stamps if kind == StampKind.LINE]
    if not lines:
        return scopes
    nodes = scopes.sequence[(scopes.kind == ScopeKind.AUTOGRAD_NODE) & (scopes.sequence >= 0)]
    made_node = np.flatnonzero((scopes.kind == ScopeKind.OPERATOR) & np.isin(scopes.sequence, nodes))
    times = np.array([time_ns for time_ns, _ in lines], dtype=np.int64)
    position = np.searchsorted(times, scopes.start_ns[made_node], side="right") - 1
    rows: list[_ScopeRow] = []
    for row, where in zip(made_node.tolist(), position.tolist(), strict=True):
        frame = lines[where][1] if where >= 0 else UNKNOWN
        if frame >= 0:
            moment, thread = int(scopes.start_ns[row]), int(scopes.thread[row])
            name = strings.number(frames[frame][0])
            rows.append((row, ScopeKind.PYTHON_FRAME, name, moment, moment, thread, UNKNOWN, frames[frame][1]))
    return Scopes.concatenate([scopes, Scopes.from_rows(rows)])


def _pruned(scopes: Scopes, events: Events, wanted: Integers) -> tuple[Scopes, Events]:
    """Drop the scopes that say nothing of any event: most operators allocate nothing.

    Kept are ``wanted`` scopes, the ancestors of events, all steps, phases and modules, and of forward operators and
    backward nodes with one sequence number both sides when one is kept: a node tells what its operator was, and the
    other way round.
    """
    keep = np.isin(scopes.kind, (ScopeKind.STEP, ScopeKind.PHASE, ScopeKind.MODULE))
    keep[events.scope[events.scope >= 0]] = True
    keep[wanted] = True
    _keep_ancestors(keep, scopes.parent)
    numbered = scopes.sequence >= 0
    is_node = scopes.kind == ScopeKind.AUTOGRAD_NODE
    linked = np.intersect1d(scopes.sequence[numbered & is_node], scopes.sequence[numbered & ~is_node])
    keep |= numbered & np.isin(scopes.sequence, np.intersect1d(scopes.sequence[keep & numbered], linked))
    _keep_ancestors(keep, scopes.parent)
    renumbered = np.append(np.cumsum(keep) - 1, NO_SCOPE)  # the last place serves index -1
    kept = scopes.take(keep)
    columns = {name: getattr(kept, name) for name in Scopes.column_names()}
    event_columns = {name: getattr(events, name) for name in Events.column_names()}
    return (
        Scopes(**{**columns, "parent": renumbered[kept.parent]}),
        Events(**{**event_columns, "scope": renumbered[events.scope]}),
    )


def _keep_ancestors(keep: np.ndarray[Any, np.dtype[np.bool_]], parent: Integers) -> None:
    """Mark the ancestors of marked rows, a generation at a time."""
    fresh = np.flatnonzero(keep)
    while len(fresh):
        above = np.unique(parent[fresh])
        above = above[above >= 0]
        fresh = above[~keep[above]]
        keep[fresh] = True


def _seed_ends(stamps: Sequence[tuple[int, str, str, int]]) -> dict[int, int]:
    gone = [(time_ns, argument) for time_ns, kind, argument, _ in stamps if kind == StampKind.SEEDS_GONE]
    return {int(number): time_ns for time_ns, argument in gone for number in argument.split(",")}


def _marks(
    stamps: Sequence[tuple[int, str, str, int]],
    batches: Sequence[Sequence[Label]],
    strings: StringTable,
    devices: Mapping[str, int],
) -> Marks:
    rows: list[tuple[int, ...]] = []
    for time_ns, kind, argument, _ in stamps:
        if kind != StampKind.MARKS:
            continue
        for item in batches[int(argument)]:
            device = devices.get(str(item.device))
            if device is not None:
                names = (strings.number(item.name), strings.number(item.owner))
                rows.append((time_ns, item.address, item.kind, *names, item.size, device))
    return Marks.from_rows(rows)
