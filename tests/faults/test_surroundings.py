"""Terminals, locales, folders and disks as they are elsewhere: nothing lost, one clear line, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.processes import unmeasured
from tests.views.samples import training

from vramscope.recording.file import write_recording

VRAMSCOPE = f"{sys.executable} -m vramscope"
FULL = Path("/dev/full")
needs_dev_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(training(), tmp_path / "training.vram")
    return tmp_path


def shell(command: str, cwd: Path, **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    """What a shell does with a command; an environment variable that is None is not there.

    Python holds back what it prints, as it does for users, though whoever runs the tests may have told it not to.
    Coverage is not measured: for its files there is no room in some of these places.
    """
    merged = {**unmeasured(), "NO_COLOR": "1", "PYTHONUNBUFFERED": None, **environment}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=cwd,
        env={name: value for name, value in merged.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def one_line(finished: subprocess.CompletedProcess[bytes], code: int = 2) -> str:
    """The line of a command that failed as it should."""
    text = finished.stderr.decode(errors="backslashreplace")
    assert finished.returncode == code, text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_a_reader_that_has_seen_enough(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram --format csv | head -2", folder)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert len(finished.stdout.splitlines()) == 2


def test_a_reader_that_is_gone_before_anything_is_written(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram --format json | true", folder)
    assert b"Traceback" not in finished.stderr
    assert b"Exception ignored" not in finished.stderr


def test_no_standard_output_at_all(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram >&-", folder)
    assert b"Traceback" not in finished.stderr
    assert b"defect" not in finished.stderr


@needs_dev_full
@pytest.mark.parametrize("command", ["report training.vram", "doctor --json -", "estimate --gpu list"])
def test_standard_output_on_a_full_disk(folder: Path, command: str) -> None:
    line = one_line(shell(f"{VRAMSCOPE} {command} > /dev/full", folder))
    assert "No space left on device; free some space, or write elsewhere" in line


@pytest.mark.parametrize("form", ["json", "csv", "html", "perfetto", "snapshot"])
def test_what_standard_output_holds_already_stays(folder: Path, form: str) -> None:
    (folder / "kept").write_bytes(b"from before\n")
    finished = shell(
        f"{VRAMSCOPE} report training.vram --format {form} -o /dev/stdout >> kept; echo end >> kept", folder
    )
    assert b"cannot" not in finished.stderr
    kept = (folder / "kept").read_bytes()
    assert kept.startswith(b"from before\n")
    assert kept.endswith(b"end\n")
    assert len(kept) > 1000
    assert sorted(path.name for path in folder.iterdir()) == ["kept", "training.vram"]


@pytest.mark.parametrize("form", ["csv", "perfetto"])
def test_a_reader_of_dev_stdout_that_has_seen_enough(folder: Path, form: str) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram -q --format {form} -o /dev/stdout | true", folder)
    assert (finished.returncode, finished.stderr) == (0, b"")


@needs_dev_full
@pytest.mark.parametrize("form", ["json", "csv", "html", "perfetto", "snapshot"])
def test_a_report_on_a_full_disk(folder: Path, form: str) -> None:
    assert "/dev/full" in one_line(shell(f"{VRAMSCOPE} report training.vram --format {form} -o /dev/full", folder))


@pytest.mark.parametrize("form", ["json", "csv", "html", "perfetto", "snapshot", "png"])
def test_a_disk_that_fills_up_keeps_what_was_there(folder: Path, form: str) -> None:
    target = folder / "before"
    name = target / "timeline.png" if form == "png" else target
    if form == "png":
        target.mkdir()
    name.write_text("from before")
    # a file may have no more than one block of 1,024 bytes
    finished = shell(f"ulimit -f 1; {VRAMSCOPE} report training.vram --format {form} -o before", folder)
    one_line(finished)
    assert name.read_text() == "from before"
    assert sorted(path.name for path in folder.iterdir()) == ["before", "training.vram"]


@pytest.mark.parametrize(
    ("command", "missing", "kept"),
    [
        ("compare mlp --no-lines --no-host", ("timeline.png", "peaks.png"), ("training.vram", "compare.json")),
        ("estimate mlp --gpu t4-16gb", ("timeline.png", "peaks.png"), ("training.vram", "estimate.json")),
        ("fit mlp --vram 1GiB --steps 1 --pass inference", ("fit.png",), ("fit.json",)),
    ],
)
def test_a_disk_that_is_too_small_for_pictures_costs_no_table(
    folder: Path, command: str, missing: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    # a file may have no more than 48 KiB, which are enough for the JSON and the recordings of a small model
    finished = shell(f"ulimit -f 48; {VRAMSCOPE} {command} -o out --json figures.json", folder)
    line = one_line(finished)
    assert b"MiB" in finished.stdout
    assert line.startswith(f"vramscope: cannot write out/{missing[0]}: File too large")
    for name in (*kept, "figures.json"):
        assert name in line.partition("kept: ")[2]
    written = {path.name for path in (folder / "out").iterdir()}
    assert written >= set(kept)
    assert not written & set(missing)
    assert not any(name.startswith(".") for name in written)


@pytest.mark.parametrize(
    "command", ["compare mlp --no-lines --no-host --steps 1", "estimate mlp --gpu t4-16gb --steps 1"]
)
def test_a_write_that_fails_keeps_an_older_comparison_whole(folder: Path, command: str) -> None:
    older = {"inference.vram": "a", "training.vram": "b", "compare.json": "c", "estimate.json": "d", "peaks.png": "e"}
    (folder / "out").mkdir()
    for name, text in (older | {"training.vram.part": "in the way"}).items():
        (folder / "out" / name).write_text(text)
    finished = shell(f"{VRAMSCOPE} {command} -o out", folder)
    assert "; missing too: out/inference.vram, " in one_line(finished)
    assert b"MiB" in finished.stdout
    (folder / "out" / "training.vram.part").unlink()
    assert {path.name: path.read_text() for path in (folder / "out").iterdir()} == older


STEPS = """
import torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(5):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


def test_a_recording_of_a_script_that_finds_no_room_is_no_fault_of_ours(folder: Path) -> None:
    (folder / "steps.py").write_text(STEPS)
    # a file may have no more than 8 KiB, which one step exceeds
    line = one_line(shell(f"ulimit -f 8; {VRAMSCOPE} run -o out steps.py", folder), code=0)
    assert line.startswith("vramscope: recording stopped early: ")
    assert "run.vram: cannot be written (file too large): choose a folder" in line
    assert "fault of vramscope" not in line


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_a_locale_without_utf_8(folder: Path, locale: str) -> None:
    finished = shell(
        f"{VRAMSCOPE} report training.vram", folder, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert finished.returncode == 0, finished.stderr
    assert b"Traceback" not in finished.stderr
    assert b"parameters" in finished.stdout


def test_output_that_can_only_be_ascii(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram", folder, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.isascii()


def test_no_home(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram --format png -o pictures", folder, HOME=None, USER=None)
    assert finished.returncode == 0, finished.stderr
    assert (folder / "pictures" / "timeline.png").stat().st_size > 0


def test_a_home_that_cannot_be_written(folder: Path) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram --format png -o pictures -q", folder, HOME="/proc/none")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("columns", ["1", "20", "10000", "junk"])
def test_terminals_of_every_width(folder: Path, columns: str) -> None:
    finished = shell(f"{VRAMSCOPE} report training.vram", folder, COLUMNS=columns, TERM="dumb")
    assert finished.returncode == 0, finished.stderr
    assert b"total" in finished.stdout


def test_a_folder_that_is_gone(folder: Path) -> None:
    finished = shell(f"mkdir gone; cd gone; rmdir ../gone; {VRAMSCOPE} report {folder}/training.vram", folder)
    assert b"Traceback" not in finished.stderr
    assert finished.returncode == 0


@pytest.mark.parametrize("command", ["report", "snapshot", "diff x", "compare", "run", "report training.vram -o"])
def test_a_name_longer_than_any_file_may_have(folder: Path, command: str) -> None:
    one_line(shell(f"{VRAMSCOPE} {command} {'a' * 300}", folder))
