"""``vramscope snapshot`` in processes of its own, through the command alone: it needs no group to hang in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from snapshot_builder import MIB, Program, recorded, training_step, write

RUN = """
import sys
from vramscope.cli.snapshot import snapshot_command
from vramscope.errors import VramscopeError
try:
    sys.exit(snapshot_command.main(sys.argv[1:], prog_name="vramscope snapshot", standalone_mode=False) or 0)
except VramscopeError as error:
    print(f"vramscope: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def snapshot_command(*arguments: str | Path, code: str = RUN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(training_step().snapshot(), tmp_path / "small.pickle")


def test_the_terminal_shows_peak_sites_and_verdict(small: Path) -> None:
    done = snapshot_command(small)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cuda:0: peak of" in done.stdout
    assert "train.py:44 <module>" in done.stdout
    assert "Replay: 15 of 15 allocations at the recorded address" in done.stdout
    assert "doubtful" not in done.stdout


def test_json_on_stdout_and_nothing_else(small: Path) -> None:
    done = snapshot_command(small, "--json", "-", "--sweep")
    report = json.loads(done.stdout)
    assert (report["schema"], report["tool"]) == ("vramscope/1", "snapshot")
    assert report["replay"] == {"matched": 15, "allocations": 15, "exact": True}
    assert len(report["settings"]) == 9
    peak = report["devices"][0]["peak"]
    assert sum(part["bytes"] for part in peak["composition"]) == peak["bytes"]
    assert peak["bytes"] == report["devices"][0]["allocated_peak_bytes"]
    assert report["marks"] == []


def test_a_folder_gets_json_and_a_segment_map(small: Path, tmp_path: Path) -> None:
    done = snapshot_command(small, "-q", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((tmp_path / "out" / "snapshot.json").read_text())["tool"] == "snapshot"
    assert (tmp_path / "out" / "segments-cuda0.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "segments-cuda0.png",
        "snapshot.json",
        "snapshot.vram",
    ]


def test_the_exit_code_tells_whether_it_fits(tmp_path: Path) -> None:
    program = Program()
    program.malloc(15 * MIB)  # a segment of 16 MiB
    path = write(program.snapshot(), tmp_path / "one.pickle")
    assert snapshot_command(path, "-q", "--fits", "16MiB").returncode == 0
    refused = snapshot_command(path, "--fits", "15MiB")
    assert refused.returncode == 1
    assert "The trace does not fit in 15 MiB (15,728,640 B) as recorded\n" in refused.stdout
    assert snapshot_command(path, "--fits", "16MiB", "--replay", "expandable_segments:True").returncode == 1


def test_with_several_settings_the_verdict_names_those_that_fit(tmp_path: Path) -> None:
    program = Program()
    program.malloc(15 * MIB)  # a segment of 16 MiB, or a page of 20 MiB
    path = write(program.snapshot(), tmp_path / "one.pickle")
    settings = ("--replay", "expandable_segments:True", "--replay", "max_split_size_mb:32")
    done = snapshot_command(path, "--fits", "16384kib", *settings)
    verdict = ("The trace fits in" + done.stdout.split("The trace fits in")[1]).splitlines()
    assert done.returncode == 0  # one of the settings given fits
    assert verdict[:2] == [
        "The trace fits in 16384 KiB (16,777,216 B) under max_split_size_mb:32",
        "  it does not fit under expandable_segments:True",
    ]
    assert verdict[2].startswith("  of the other settings tried, it fits as recorded and under the defaults; ")
    assert "with 16384 KiB to reserve" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--replay", "warp:9"], "no option 'warp'"),
        (["--fits", "24"], "is not a size"),
        (["--fits", "lots"], "is not a size"),
        (["-o", "/dev/null/x"], "cannot write to the folder /dev/null/x"),
        (["--json", "/nowhere/x.json"], "cannot write /nowhere/x.json"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(small: Path, arguments: list[str], complaint: str) -> None:
    done = snapshot_command(small, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unreadable_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "page.pickle"
    path.write_text("<html>")
    done = snapshot_command(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr


def test_text_from_the_file_is_no_markup(tmp_path: Path) -> None:
    program = Program()
    name = "[bold red]x[/nonsense]"
    program.malloc(MIB, frames=[{"name": name, "filename": "[link=x].py", "line": 1}])
    done = snapshot_command(write(program.snapshot(), tmp_path / "markup.pickle"))
    assert done.returncode == 0
    assert name in done.stdout


@pytest.mark.parametrize(("name", "shown"), [("a\ud800b.py", "a\\ud800b.py"), ("\x1b[2Ja.py", "\\x1b[2Ja.py")])
def test_text_that_no_terminal_should_see_is_escaped(tmp_path: Path, name: str, shown: str) -> None:
    program = Program()
    program.malloc(MIB, frames=[{"name": "f", "filename": name, "line": 1}])
    done = snapshot_command(write(program.snapshot(), tmp_path / "odd.pickle"))
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert "\x1b" not in done.stdout


def test_doubts_are_shown(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    del raw["device_traces"][0][4]
    done = snapshot_command(write(raw, tmp_path / "gap.pickle"))
    assert done.returncode == 0
    assert "! doubtful:" in done.stdout


def test_neither_torch_nor_matplotlib_is_imported_for_the_terminal(small: Path) -> None:
    code = RUN.replace("sys.exit(snapshot_command", "result = (snapshot_command").replace(" or 0)", ")", 1)
    code += "\nprint([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    assert snapshot_command(small, code=code).stdout.splitlines()[-1] == "[]"


def test_a_recording_from_end_to_end(tmp_path: Path) -> None:
    done = snapshot_command(recorded("medium_256_training"), "--json", "-", "--fits", "24GiB")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["fits"] is True
    assert report["replay"]["matched"] == report["replay"]["allocations"] == 6624
    device = report["devices"][0]
    assert (device["allocated_peak_bytes"], device["reserved_peak_bytes"]) == (9_113_374_720, 9_265_217_536)
