"""The exported CUDA memory snapshot: plain, read by PyTorch's own viewer, and the same when imported again."""

import pickle
import pickletools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.allocator.snapshot_builder import recorded

from helpers import Script
from views import samples
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.errors import UnsupportedError
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import PhaseName
from vramscope.views.snapshot import snapshot_document, write_snapshot


def peak_of(trace: list[dict[str, Any]], start: int = 0) -> int:
    """The highest sum of what was allocated and not yet freed."""
    total = highest = start
    for entry in trace:
        total += {"alloc": entry["size"], "free_completed": -entry["size"]}.get(entry["action"], 0)
        highest = max(highest, total)
    return highest


def test_the_trace_has_the_same_peak_and_end() -> None:
    ledger = Ledger(samples.training())
    document = snapshot_document(ledger)
    (trace,) = document["device_traces"]
    assert peak_of(trace) == ledger.peak().bytes
    left = sum(block["size"] for segment in document["segments"] for block in segment["blocks"])
    assert left == ledger.allocator_totals()[-1]


def test_the_pickle_holds_only_built_in_types(tmp_path: Path) -> None:
    write_snapshot(Ledger(samples.training()), tmp_path / "x.pickle")
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops((tmp_path / "x.pickle").read_bytes())}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}


def test_hostile_names_are_text(tmp_path: Path) -> None:
    document = snapshot_document(samples.hostile().ledgers["training"])
    names = {frame["name"] for entry in document["device_traces"][0] for frame in entry["frames"]}
    assert all(name.isprintable() for name in names)
    pickle.dumps(document)


def test_pytorch_reads_it(tmp_path: Path) -> None:
    viewer = pytest.importorskip("torch.cuda._memory_viz")
    ledger = Ledger(samples.training())
    write_snapshot(ledger, tmp_path / "x.pickle")
    with (tmp_path / "x.pickle").open("rb") as file:
        document = pickle.load(file)
    assert f"[0:{samples.WEIGHT / 1024:.1f}KiB]" in viewer.trace(document)
    assert f"total_reserved: {ledger.allocator_totals()[-1] / 1024:.1f}KiB" in viewer.segsum(document)
    assert "<html" in viewer.trace_plot(document)
    assert "<html" in viewer.segment_plot(document)


def test_read_again_it_is_known_as_an_export_of_the_cpu(tmp_path: Path) -> None:
    ledger = Ledger(samples.training())
    write_snapshot(ledger, tmp_path / "x.pickle")
    snapshot = read_snapshot(tmp_path / "x.pickle")
    assert (snapshot.exported_from, snapshot.marks) == ("cpu", ())
    again = Ledger(import_snapshot(snapshot))
    assert again.peak().bytes == ledger.peak().bytes
    assert again.recording.devices[0].name == "cpu"


def test_a_block_whose_end_no_event_tells_of_counts_until_then(tmp_path: Path) -> None:
    script = Script()
    with script.phase(PhaseName.FORWARD):
        script.seed(64, 1000)
        script.alloc(5000, 300)
        script.free(5000, 300)
        script.alloc(64, 200)  # where the 1000 B lay: they must have gone
        script.free(64, 200)
    ledger = Ledger(script.recording())
    write_snapshot(ledger, tmp_path / "x.pickle")
    again = Ledger(import_snapshot(read_snapshot(tmp_path / "x.pickle")))
    assert ledger.peak().bytes == again.peak().bytes == 1300


def test_what_has_no_addresses_is_refused() -> None:
    recording = samples.training()
    events = replace(recording.events, address=recording.events.address * 0)
    with pytest.raises(UnsupportedError, match="no addresses"):
        snapshot_document(Ledger(replace(recording, events=events)))


@pytest.mark.parametrize("name", ["medium_256_inference", "graph_breaks"])
def test_imported_and_exported_again_it_has_the_same_peaks(name: str, tmp_path: Path) -> None:
    first = Ledger(import_snapshot(read_snapshot(recorded(name))))
    write_snapshot(first, tmp_path / "again.pickle")
    again = Ledger(import_snapshot(read_snapshot(tmp_path / "again.pickle")))
    assert again.peak().bytes == first.peak().bytes
