"""The zoo itself: six unusual architectures are exact to the byte, and a pass that is not would be seen."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.storing import read_json
from benchmarks.zoo.architecture import Architecture, Kind, catalogue
from benchmarks.zoo.check import FAULTS, check, record
from benchmarks.zoo.results import Row, add_row, write_table
from helpers import with_resized_event, without_event
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.workloads.passes import PassName
from vramscope.workloads.workload import WorkloadOptions

# a recurrence, hashing with reversible layers, routed experts, deformable sampling, an LSTM within a codec, two towers
UNUSUAL = ["Mamba", "Reformer", "GPT-OSS", "Deformable DETR", "EnCodec", "CLIP"]
KEPT = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def small():
    return record("mlp", WorkloadOptions(batch=2), PassName.TRAINING)


def test_unusual_architectures_are_exact(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    command = [sys.executable, "-m", "benchmarks.zoo", *UNUSUAL, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "zoo.json").read_text())["rows"].values()
    assert sorted(row["name"] for row in rows) == sorted(UNUSUAL)
    passes = [found for row in rows for found in row["passes"].values()]
    assert [[found[fault] for fault in FAULTS] for found in passes] == [[0] * len(FAULTS)] * 2 * len(UNUSUAL)
    assert all(found["events"] > 100 for found in passes)
    page = (tmp_path / "zoo.md").read_text()
    assert f"| 6 | 12 | 12 | {sum(found['events'] for found in passes):,} |" in page
    assert "## Misses\n\nNone." in page


def test_the_catalogue_has_every_kind_and_names_no_model_twice() -> None:
    rows = catalogue()
    assert {row.kind for row in rows} == set(Kind)
    assert len({row.source for row in rows}) == len(rows) >= 40


def test_a_row_must_name_one_model() -> None:
    with pytest.raises(ValueError, match="give either a target, or config and model"):
        Architecture("nothing", Kind.OTHER)


def test_a_clean_pass_is_clean(small) -> None:
    found = check(*small)
    assert found.is_clean
    # both linear layers' weights and biases, thrice for AdamW, and more: the pass is no empty one
    assert found.peak_bytes > 3 * small[0].composition(small[0].steps[0].first)[Category.PARAMETERS] > 0


def test_a_lost_event_is_seen(small) -> None:
    ledger, walks = small
    found = check(Ledger(without_event(ledger.recording, len(ledger) // 2)), walks)
    assert found.disagreement_bytes > 0
    assert found.inexact_events > 0
    assert not found.is_clean


def test_a_wrong_size_is_seen(small) -> None:
    ledger, walks = small
    found = check(Ledger(with_resized_event(ledger.recording, len(ledger) // 2, 8)), walks)
    assert found.disagreement_bytes == 8


def test_a_wrong_label_is_seen(small) -> None:
    ledger, walks = small
    wrong = [{**walk, Category.GRADIENTS: walk[Category.GRADIENTS] + 4} for walk in walks]
    assert check(ledger, wrong).mislabelled_bytes == 4


def test_bytes_without_an_owner_are_seen(small) -> None:
    ledger, walks = small
    recording = ledger.recording
    alone = Ledger(replace(recording, events=replace(recording.events, scope=recording.events.scope * 0 - 1)))
    assert check(alone, walks).unattributed_bytes > 0


def test_a_failure_is_a_row_and_a_miss(tmp_path: Path, small) -> None:
    broken = Architecture("Broken", Kind.OTHER, library="torch", target="nothing:here")
    row = Row(broken, {PassName.INFERENCE: "it does not run", PassName.TRAINING: check(*small)})
    write_table(tmp_path / "zoo.md", add_row(tmp_path / "zoo.json", row))
    page = (tmp_path / "zoo.md").read_text()
    assert "- Broken, inference, torch" in page
    assert "it does not run" in page
    assert "| 1 | 2 | 1 |" in page


def test_a_further_run_replaces_its_own_row_only(tmp_path: Path, small) -> None:
    found = check(*small)
    for name, events in (("A", 1), ("B", 2), ("A", 3)):
        model = Architecture(name, Kind.OTHER, library="torch", target="nothing:here")
        content = add_row(tmp_path / "zoo.json", Row(model, {PassName.TRAINING: replace(found, events=events)}))
    assert [row["passes"]["training"]["events"] for row in content["rows"].values()] == [3, 2]


def test_each_version_of_a_library_counts_its_own_rows(tmp_path: Path, small) -> None:
    row = Row(Architecture("A", Kind.OTHER, library="numpy", target="nothing:here"), {PassName.TRAINING: check(*small)})
    old, new = ({**row.to_json(), "versions": {"torch": "2", "numpy": version}} for version in ("1.0", "2.0"))
    write_table(tmp_path / "zoo.md", {"rows": {"A": old, "B": new, "C": new}})
    page = (tmp_path / "zoo.md").read_text()
    events = len(small[0])
    assert f"| 2 | numpy 1.0 | 1 | 1 | 1 | {events:,} |" in page
    assert f"| 2 | numpy 2.0 | 2 | 2 | 2 | {2 * events:,} |" in page


def test_the_kept_page_is_made_from_the_kept_figures(tmp_path: Path) -> None:
    write_table(tmp_path / "zoo.md", read_json(KEPT / "zoo.json"))
    assert (tmp_path / "zoo.md").read_text(encoding="utf-8") == (KEPT / "zoo.md").read_text(encoding="utf-8")
