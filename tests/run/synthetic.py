"""Runs of any length, written without running anything: as large as a test wants, with totals that can be derived."""

from pathlib import Path

import numpy as np

from vramscope.recording.file import RecordingWriter
from vramscope.recording.recording import (
    UNKNOWN,
    Counters,
    Device,
    Events,
    Marks,
    PhaseName,
    Recording,
    ScopeKind,
    Scopes,
    Seeds,
    Source,
)

BLOCK_BYTES = 1024
LEAKED_BYTES = 64
ALIVE = 100
"""Blocks alive at a step's peak; each is freed 100 allocations later."""
_STRINGS = ("step", str(PhaseName.FORWARD), "aten::linear")


def step_of_run(index: int, events: int, start_total: int) -> Recording:
    """One step of ``events`` events: a block comes and one of a hundred goes, and one small block stays for good."""
    blocks = (events - 1) // 2
    born = np.arange(blocks) * 2
    order = np.argsort(np.concatenate([born, born + 2 * ALIVE - 1]), kind="stable")
    size = np.concatenate([np.full(blocks, BLOCK_BYTES), np.full(blocks, -BLOCK_BYTES)])[order]
    address = np.tile((np.arange(blocks) % (2 * ALIVE) + 1) << 20, 2)[order]
    size, address = np.append(size, LEAKED_BYTES), np.append(address, (1 << 40) + (index << 12))
    count = len(size)
    begin = index * 10_000_000_000
    time = begin + 10 + np.arange(count, dtype=np.int64) * 10
    end = int(time[-1]) + 10
    kinds = (ScopeKind.STEP, ScopeKind.PHASE, ScopeKind.OPERATOR)
    values = (index + 1, 0, 0)  # the step's index: step 0 would be a cold one
    rows = [(n - 1, kinds[n], n, begin, end, 1, UNKNOWN, values[n]) for n in range(3)]  # a parent of -1 is none
    total = start_total + np.cumsum(size)
    zeros = np.zeros(count, dtype=np.int64)
    return Recording(
        source=Source.PROFILER,
        scopes=Scopes.from_rows(rows),
        events=Events(time, address, size, size, zeros, zeros + 2, total, total),
        marks=Marks.from_rows([]),
        counters=Counters.from_rows([]),
        seeds=Seeds.from_rows([((1 << 40) + (n << 12), LEAKED_BYTES, LEAKED_BYTES, 0, UNKNOWN) for n in range(index)]),
        strings=_STRINGS,
        devices=(Device("cpu", "a CPU", start_total, int(total[-1])),),
        workload={"name": "synthetic", "tool": "run", "pass": "training", "modules": []},
    )


def write_run(path: Path, steps: int, events_per_step: int, steps_per_window: int | None = None) -> None:
    """A sealed run of so many steps from step 1 on, a part each."""
    writer = RecordingWriter(path)
    for index in range(steps):
        writer.append(step_of_run(index, events_per_step, index * LEAKED_BYTES), index // (steps_per_window or steps))
    writer.seal()
