"""The Perfetto view: a Chrome trace with memory counters by category, and slices of phases, modules and operators.

The format is Google's "Trace Event Format". Sizes are bytes; times are microseconds from the first event on, with the
nanoseconds as decimals.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vramscope.ledger.categories import CATEGORIES
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ledger import Ledger
from vramscope.names import visible
from vramscope.recording.recording import ScopeKind
from vramscope.views.atomic import atomic_path

EXTENSION = "perfetto.json"
_NANOSECONDS = 1000
_TRACKS = {
    ScopeKind.STEP: "steps and phases",
    ScopeKind.PHASE: "steps and phases",
    ScopeKind.USER: "steps and phases",
}
"""Kinds with a track of their own; all others stand on their thread's."""
_LEFT_OUT = (ScopeKind.PYTHON_FRAME,)
_PERIODS_TRACK = 0

Entry = dict[str, Any]


def write_perfetto(comparison: Comparison, path: Path) -> None:
    """Write a trace that ui.perfetto.dev and chrome://tracing open; one process for each pass.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        separator = ""
        for process, (name, ledger) in enumerate(comparison.ledgers.items(), start=1):
            for entry in _entries(process, name, ledger):
                file.write(separator + json.dumps(entry, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")


def _entries(process: int, name: str, ledger: Ledger) -> Iterator[Entry]:
    yield _named("process_name", process, _PERIODS_TRACK, visible(name))
    yield _named("thread_name", process, _PERIODS_TRACK, "steps and phases")
    start_ns = _start_ns(ledger)
    for device in range(len(ledger.recording.devices)):
        yield from _counters(process, ledger, device, start_ns)
    yield from _slices(process, ledger, start_ns)


def _start_ns(ledger: Ledger) -> int:
    """The earliest time of all, so that a trace begins near 0."""
    scopes, times = ledger.recording.scopes, ledger.recording.events.time_ns
    starts = scopes.start_ns[~np.isin(scopes.kind, _LEFT_OUT)]
    return min((int(column.min()) for column in (starts, times) if len(column)), default=0)


def _counters(process: int, ledger: Ledger, device: int, start_ns: int) -> Iterator[Entry]:
    """The allocator's own total, what it had reserved, and each category; the last two where they change.

    Total and categories begin with what was there before.
    """
    times, levels = ledger.timeline(device)
    label = visible(ledger.recording.devices[device].name)
    first = ledger.composition(-1, device)
    before = np.array([list(first.values())], dtype=np.int64)
    stamps = np.concatenate([[start_ns], times])
    totals = np.concatenate([[int(before.sum())], ledger.allocator_totals(device)])
    yield from _counter(process, f"{label} allocated", stamps, totals, start_ns)
    reserved = ledger.reserved_totals(device)
    if reserved is not None:
        changed = np.flatnonzero(np.diff(reserved, prepend=-1))
        yield from _counter(process, f"{label} reserved", times[changed], reserved[changed], start_ns)
    whole = np.concatenate([before, levels])
    for code, category in enumerate(CATEGORIES):
        column = whole[:, code]
        if column.any():
            changed = np.flatnonzero(np.diff(column, prepend=-1))
            yield from _counter(process, f"{label} {category}", stamps[changed], column[changed], start_ns)


def _counter(process: int, name: str, stamps: Any, values: Any, start_ns: int) -> Iterator[Entry]:
    for time_ns, value in zip(stamps.tolist(), values.tolist(), strict=True):
        yield {
            "ph": "C",
            "pid": process,
            "name": name,
            "ts": _microseconds(time_ns, start_ns),
            "args": {"bytes": value},
        }


def _slices(process: int, ledger: Ledger, start_ns: int) -> Iterator[Entry]:
    """Every step, phase, module, operator and autograd node as a slice on its thread."""
    recording, scopes = ledger.recording, ledger.recording.scopes
    threads = {int(thread) for thread in np.unique(scopes.thread)}
    numbers = {thread: number for number, thread in enumerate(sorted(threads), start=_PERIODS_TRACK + 1)}
    for thread, number in numbers.items():
        yield _named("thread_name", process, number, f"thread {thread}")
    columns = (scopes.kind, scopes.name, scopes.start_ns, scopes.end_ns, scopes.thread)
    for kind, name, begin_ns, end_ns, thread in zip(*(column.tolist() for column in columns), strict=True):
        if kind in _LEFT_OUT:
            continue
        yield {
            "ph": "X",
            "pid": process,
            "tid": _PERIODS_TRACK if kind in _TRACKS else numbers[thread],
            "name": visible(recording.strings[name]) or "(the model itself)",
            "cat": ScopeKind(kind).name.lower(),
            "ts": _microseconds(begin_ns, start_ns),
            "dur": _microseconds(max(end_ns, begin_ns), begin_ns),
        }


def _named(what: str, process: int, thread: int, name: str) -> Entry:
    return {"ph": "M", "pid": process, "tid": thread, "name": what, "args": {"name": name}}


def _microseconds(time_ns: int, start_ns: int) -> float:
    return (time_ns - start_ns) / _NANOSECONDS
