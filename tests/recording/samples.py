"""Recordings to write and read: made at random, and made by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from vramscope.recording.recording import (
    NO_SCOPE,
    Counters,
    Device,
    Events,
    MarkKind,
    Marks,
    Recording,
    ScopeKind,
    Scopes,
    Seeds,
    Source,
)

TABLES = {"scopes": Scopes, "events": Events, "marks": Marks, "counters": Counters, "seeds": Seeds}
INT64 = st.integers(-(2**63), 2**63 - 1)
# Lone surrogates too: a file name that is no UTF-8 arrives as such.
TEXT = st.text(st.characters(), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FACTS = st.dictionaries(TEXT, JSON, max_size=3)


@st.composite
def recordings(draw: st.DrawFn, source: Source | None = None) -> Recording:
    """Any valid recording of a few rows: indices that point into its tables, every other number at random."""
    strings = draw(st.lists(TEXT, max_size=4))
    devices = [
        Device(name, draw(TEXT), draw(INT64), draw(INT64)) for name in draw(st.lists(TEXT, max_size=3, unique=True))
    ]
    rows = {name: draw(st.integers(0, 5)) for name in TABLES}
    if not strings:
        rows.update(scopes=0, marks=0, counters=0)
    if not devices:
        rows.update(events=0, marks=0, counters=0, seeds=0)
    tables = {name: _table(draw, kind, rows[name]) for name, kind in TABLES.items()}
    return Recording(
        source=source or draw(st.sampled_from(Source)),
        **_pointing(draw, tables, len(strings), len(devices)),
        strings=tuple(strings),
        devices=tuple(devices),
        environment=draw(FACTS),
        workload=draw(FACTS),
        notes=tuple(draw(st.lists(TEXT, max_size=2))),
        complete=draw(st.booleans()),
    )


def _table(draw: st.DrawFn, kind: Any, rows: int) -> Any:
    return kind(**{name: draw(np_st.arrays(np.int64, rows, elements=INT64)) for name in kind.column_names()})


def _pointing(draw: st.DrawFn, tables: dict[str, Any], strings: int, devices: int) -> dict[str, Any]:
    """The tables, with columns that are indices pointing into the recording."""

    def indices(rows: int, low: int, bound: int) -> Any:
        return (
            draw(np_st.arrays(np.int64, rows, elements=st.integers(low, bound - 1))) if rows else np.zeros(0, np.int64)
        )

    scopes = len(tables["scopes"])
    parents = np.asarray([draw(st.integers(NO_SCOPE, row - 1)) for row in range(scopes)], dtype=np.int64)
    pointing = {"scopes": replace(tables["scopes"], parent=parents)}
    for name in ("events", "marks", "counters", "seeds"):
        rows = len(tables[name])
        pointing[name] = replace(tables[name], device=indices(rows, 0, devices))
    pointing["events"] = replace(pointing["events"], scope=indices(len(tables["events"]), NO_SCOPE, scopes))
    for name, column in (("scopes", "name"), ("marks", "name"), ("marks", "owner"), ("counters", "name")):
        pointing[name] = replace(pointing[name], **{column: indices(len(pointing[name]), 0, strings)})
    return pointing


def step_recording(step: int = 0, events: int = 6, start_total: int = 0) -> Recording:
    """A step that allocates and frees ``events // 2`` blocks in turn on the CPU, in one scope; a mark and a counter."""
    time = 1000 * step + np.arange(events)
    size = np.where(np.arange(events) % 2, -64, 64)
    total = start_total + np.cumsum(size)
    address = 4096 + np.arange(events) // 2 * 64
    zeros = np.zeros(events, dtype=np.int64)
    return Recording(
        source=Source.PROFILER,
        scopes=Scopes.from_rows([(NO_SCOPE, ScopeKind.STEP, 0, 1000 * step, 1000 * step + events, 1, -1, step)]),
        events=Events(time, address, size, size, zeros, zeros, total, total),
        marks=Marks.from_rows([(1000 * step, 4096, MarkKind.PARAMETER, 1, 1, 64, 0)]),
        counters=Counters.from_rows([(1000 * step, 2, 0, 10 + step)]),
        seeds=Seeds.from_rows([(512, 256, 250, 0, -1)]),
        strings=(f"step {step}", "layer.weight", "rss"),
        devices=(Device("cpu", "a CPU", start_total, int(total[-1])),),
        environment={"torch": "2.13"},
        workload={"name": "mlp", "batch": 8},
        notes=("made by hand",),
    )


def assert_same(left: Recording, right: Recording) -> None:
    """Two recordings hold the same facts, row by row."""
    for name, kind in TABLES.items():
        for column in kind.column_names():
            values = getattr(getattr(left, name), column), getattr(getattr(right, name), column)
            np.testing.assert_array_equal(*values, err_msg=f"{name}.{column}")
    for name in ("source", "strings", "devices", "environment", "workload", "notes", "complete"):
        assert getattr(left, name) == getattr(right, name), name


def spelled_out(recording: Recording, first_scope: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The rows of a recording with names in place of indices, scopes numbered from ``first_scope`` on."""
    found = {}
    for name, kind in TABLES.items():
        table = getattr(recording, name)
        columns = {column: getattr(table, column).tolist() for column in kind.column_names()}
        found[name] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for row in found[name]:
            _spell(row, recording, first_scope)
    return found


def _spell(row: dict[str, Any], recording: Recording, first_scope: int) -> None:
    for column in row.keys() & {"name", "owner"}:
        row[column] = recording.strings[row[column]]
    for column in row.keys() & {"device"}:
        row[column] = recording.devices[row[column]].name
    for column in row.keys() & {"parent", "scope"}:
        row[column] += first_scope if row[column] != NO_SCOPE else 0
