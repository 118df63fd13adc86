"""The Perfetto trace: its own arithmetic, and what Perfetto's trace processor reads from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trace_processor import TraceProcessor, why_missing
from views import samples
from vramscope.ledger.categories import CATEGORIES
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.names import visible
from vramscope.recording.recording import ScopeKind
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


def test_what_a_gpu_has_reserved_is_a_counter_of_its_own(tmp_path: Path) -> None:
    entries = entries_of(compare_recordings({"training": samples.on_gpu(samples.training())}), tmp_path)
    reserved = [e["args"]["bytes"] for e in entries if e["name"] == "cuda:0 reserved"]
    # 2 weights, an activation and 2 gradients: 4 x 1,600 + 480 = 6,880 B at most, in segments of 4,096 B
    assert reserved == [4096, 8192]
    assert not any("reserved" in e["name"] for e in entries_of(samples.comparison(), tmp_path))


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


needs_processor = pytest.mark.skipif(why_missing() is not None, reason=why_missing() or "")


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[TraceProcessor]:
    """Both passes, in Perfetto's own trace processor."""
    write_perfetto(samples.comparison(), tmp_path / "trace.json")
    with TraceProcessor(tmp_path / "trace.json") as processor:
        yield processor


@needs_processor
def test_the_trace_processor_finds_the_same_peaks(loaded: TraceProcessor) -> None:
    found = {
        (row.process, row.counter): int(row.peak)
        for row in loaded.query(
            "select process.name as process, track.name as counter, max(counter.value) as peak from counter "
            "join process_counter_track track on counter.track_id = track.id join process using (upid) group by 1, 2"
        )
    }
    expected = {}
    for name, ledger in samples.comparison().ledgers.items():
        expected[name, "cpu allocated bytes"] = ledger.peak().bytes
        _, levels = ledger.timeline()
        peaks = zip(CATEGORIES, levels.max(axis=0).tolist(), strict=True)
        expected |= {(name, f"cpu {category} bytes"): peak for category, peak in peaks if peak}
    assert found == expected


@needs_processor
def test_the_trace_processor_takes_every_slice_and_complains_of_nothing(loaded: TraceProcessor) -> None:
    found = {
        (row.process, row.category): row.slices
        for row in loaded.query(
            "select process.name as process, slice.category as category, count() as slices from slice "
            "join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid) "
            "group by 1, 2"
        )
    }
    expected = {
        (name, kind.name.lower()): count
        for name, ledger in samples.comparison().ledgers.items()
        for kind in ScopeKind
        if (count := int(np.count_nonzero(ledger.recording.scopes.kind == kind)))
    }
    assert found == expected
    wrong = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
    assert [(row.name, row.value) for row in loaded.query(wrong)] == []


@needs_processor
def test_the_trace_processor_takes_hostile_names(tmp_path: Path) -> None:
    write_perfetto(samples.hostile(), tmp_path / "trace.json")
    with TraceProcessor(tmp_path / "trace.json") as processor:
        names = {row.name for row in processor.query("select distinct name from slice where category = 'module'")}
    assert {visible(name) for name in samples.HOSTILE} <= names
