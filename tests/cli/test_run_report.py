"""`vramscope report` of a script's run: its windows together, or one of them, and in words what does not go."""

import csv
import json
from pathlib import Path

import pytest
from command import refused, vramscope
from tests.run.synthetic import ALIVE, BLOCK_BYTES, LEAKED_BYTES, write_run

# the sixth and last step has its hundred blocks on what five steps have left
PEAK_BYTES = ALIVE * BLOCK_BYTES + 5 * LEAKED_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    write_run(tmp_path / "out" / "run.vram", 6, 401, steps_per_window=3)
    return tmp_path


def test_a_summary_joins_the_windows(folder: Path) -> None:
    document = json.loads(vramscope("report", "out", "--format", "json", cwd=folder).stdout)
    assert document["windows"] == 2
    assert [step["index"] for step in document["steps"]] == [1, 2, 3, 4, 5, 6]
    assert document["passes"]["training"]["peak"]["bytes"] == PEAK_BYTES
    rows = list(csv.DictReader(vramscope("report", "out", "--format", "csv", cwd=folder).stdout.splitlines()))
    assert [row["value"] for row in rows if (row["table"], row["detail"]) == ("peak", "allocator")] == [str(PEAK_BYTES)]
    assert "2 windows" in vramscope("report", "out", cwd=folder).stdout


def test_what_draws_every_event_shows_one_window(folder: Path) -> None:
    first = vramscope("report", "out", "--format", "perfetto", cwd=folder)
    assert "this format draws every event: showing window 0" in first.stderr
    second = vramscope("report", "out/run.vram", "--format", "perfetto", "--window", "1", cwd=folder)
    assert "showing window 1" in second.stderr
    texts = [(folder / "out" / name).read_text() for name in ("report.perfetto.json", "run-window1.perfetto.json")]
    assert texts[0] != texts[1]


def test_a_difference_is_of_one_window(folder: Path) -> None:
    """Windows do not join up: what leaked between two of them would be the later one's."""
    write_run(folder / "longer.vram", 4, 401, steps_per_window=3)
    found = vramscope("diff", "out", "longer.vram", "--format", "json", cwd=folder)
    assert "out is a script's run: comparing window 0" in found.stderr
    changes = json.loads(found.stdout)["changes"]  # the third step stands on two, in both
    assert [row["after_bytes"] for row in changes] == [row["before_bytes"] for row in changes]
    second = vramscope("diff", "out", "longer.vram", "--window", "1", "--format", "json", cwd=folder)
    (peak,) = [row for row in json.loads(second.stdout)["changes"] if row["kind"] == "peak"]
    # the last of three steps stands on five steps' leaks, the only one of one step on three
    assert (peak["before_bytes"], peak["after_bytes"]) == (PEAK_BYTES, PEAK_BYTES - 2 * LEAKED_BYTES)
    assert "--window 2: the recording has windows 0, 1" in refused("diff", "out", "out", "--window", "2", cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--window", "1"), "--window: terminal shows all windows of a run together"),
        (("--format", "html", "--window", "7"), "--window 7: the recording has windows 0, 1"),
        (("--rank", "1"), "--rank 1: there is rank 0"),
        (("--pass", "inference"), "--pass inference: the run has training"),
    ],
)
def test_what_is_not_there_is_refused(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused("report", "out", *arguments, cwd=folder)


def test_ranks_of_an_older_run_are_passed_over(folder: Path) -> None:
    """The recordings speak of one rank: what lies beside them is older."""
    out = folder / "out"
    for rank in (0, 3):
        (out / f"run.rank{rank}.vram").write_bytes((out / "run.vram").read_bytes())
    assert "choose one of the files" in refused("report", "out", cwd=folder)
    (out / "run.vram").unlink()
    document = json.loads(vramscope("report", "out", "--format", "json", cwd=folder).stdout)
    assert document["passes"]["training"]["peak"]["bytes"] == PEAK_BYTES
