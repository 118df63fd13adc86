"""The Perfetto trace: its own arithmetic, and what Perfetto's trace processor reads from it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from views import samples
from vramscope.ledger.comparison import Comparison
from vramscope.views.perfetto import write_perfetto


def entries_of(comparison: Comparison, folder: Path) -> list[dict[str, Any]]:
    write_perfetto(comparison, folder / "trace.json")
    return json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


def test_the_counters_are_the_ledgers(tmp_path: Path) -> None:
    comparison = samples.comparison()
    entries = entries_of(comparison, tmp_path)
    for process, ledger in enumerate(comparison.ledgers.values(), start=1):
        counters = [e for e in entries if e["ph"] == "C" and e["pid"] == process]
        totals = [e["args"]["bytes"] for e in counters if e["name"] == "cpu allocated"]
        assert totals == [0, *ledger.allocator_totals().tolist()]
        assert max(totals) == ledger.peak().bytes
        # at the last moment the categories' last values sum to the total
        last = {e["name"]: e["args"]["bytes"] for e in counters}
        assert sum(size for name, size in last.items() if name != "cpu allocated") == last["cpu allocated"]


def test_every_scope_is_a_slice_inside_its_parent(tmp_path: Path) -> None:
    entries = entries_of(samples.comparison(), tmp_path)
    for process in (1, 2):
        slices = [e for e in entries if e["ph"] == "X" and e["pid"] == process]
        assert {"step", "phase", "module", "operator"} <= {e["cat"] for e in slices}
        for one in slices:
            for other in (e for e in slices if e["tid"] == one["tid"]):
                starts, ends = (sorted((e["ts"], e["ts"] + e["dur"])) for e in (one, other))
                apart = starts[1] <= ends[0] or ends[1] <= starts[0]
                nested = np.sign(starts[0] - ends[0]) * np.sign(starts[1] - ends[1]) <= 0
                assert apart or nested


def test_hostile_names_are_text(tmp_path: Path) -> None:
    text = "".join(e["name"] for e in entries_of(samples.hostile(), tmp_path))
    assert all(character.isprintable() for character in text)


@pytest.fixture(scope="module")
def processor_of() -> Iterator[Any]:
    """Opens a trace in Perfetto's trace processor, whose program its Python package fetches where it can."""
    perfetto = pytest.importorskip("perfetto.trace_processor")
    opened: list[Any] = []

    def open_trace(path: Path) -> Any:
        config = perfetto.TraceProcessorConfig(bin_path=shutil.which("trace_processor_shell"))
        try:
            opened.append(perfetto.TraceProcessor(trace=str(path), config=config))
        except Exception as error:  # noqa: BLE001 - the package has no error of its own for a failed download
            pytest.skip(f"Perfetto's trace processor cannot be had here: {error}")
        return opened[-1]

    yield open_trace
    for processor in opened:
        processor.close()


def test_the_trace_processor_finds_the_same_peak(processor_of: Any, tmp_path: Path) -> None:
    comparison = samples.comparison()
    write_perfetto(comparison, tmp_path / "trace.json")
    processor = processor_of(tmp_path / "trace.json")
    found = {
        row.process: int(row.peak)
        for row in processor.query(
            "select process.name as process, max(counter.value) as peak from counter "
            "join process_counter_track track on counter.track_id = track.id join process using (upid) "
            "where track.name = 'cpu allocated' group by process.name"
        )
    }
    assert found == {name: ledger.peak().bytes for name, ledger in comparison.ledgers.items()}
    (failed,) = processor.query("select sum(value) as errors from stats where severity = 'error'")
    assert not failed.errors
