"""Where `run` puts a recording, and what it says of one that was there before."""

from pathlib import Path

import pytest
from command import vramscope
from tests.recording.samples import step_recording

from vramscope.recording.file import RecordingWriter

STEP = """
import torch
weight = torch.nn.Parameter(torch.ones(4))
optimizer = torch.optim.SGD([weight])
for _ in range(4):
    weight.sum().backward()
    optimizer.step()
"""


def test_an_older_recording_stays_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(STEP)
    (tmp_path / "s.vram").write_text("of an earlier run")
    finished = vramscope("run", "s.py", cwd=tmp_path)
    assert finished.stderr.splitlines()[-1] == "vramscope: recording in s-2.vram; s.vram is from before"
    assert (tmp_path / "s.vram").read_text() == "of an earlier run"


def test_the_first_one_has_the_name_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(STEP)
    finished = vramscope("run", "s.py", cwd=tmp_path)
    assert finished.stderr.splitlines()[-1] == "vramscope: recording in s.vram"


KILLED = "    if _ == 2: __import__('os').kill(__import__('os').getpid(), 9)\n"
WITHOUT_TORCH = "print('no torch')"
FAILS_EARLY = "import torch, nothing_of_this_name"


@pytest.mark.parametrize(
    ("killed", "text", "said"),
    [
        (True, WITHOUT_TORCH, "nothing was recorded: the script never imported torch; out/{} is from before"),
        (True, FAILS_EARLY, "; out/{} is from before"),
        (False, FAILS_EARLY, "; out/{} is from before"),
    ],
)
def test_a_run_without_a_step_leaves_the_older_recording(tmp_path: Path, killed: bool, text: str, said: str) -> None:
    (tmp_path / "s.py").write_text(STEP + KILLED * killed)
    vramscope("run", "-q", "-o", "out", "s.py", cwd=tmp_path)
    name = "run.vram.part" if killed else "run.vram"
    kept = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", name]
    (tmp_path / "s.py").write_text(text)
    finished = vramscope("run", "-o", "out", "s.py", cwd=tmp_path)
    assert finished.stderr.splitlines()[-1].endswith(said.format(name))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == kept
    assert vramscope("report", "out", cwd=tmp_path).returncode == 0


def test_a_run_killed_before_its_first_step_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import os, torch\nos.kill(os.getpid(), 9)\n")
    finished = vramscope("run", "s.py", cwd=tmp_path)
    assert (finished.returncode, list(tmp_path.iterdir())) == (137, [tmp_path / "s.py"])


def test_a_killed_run_takes_the_place_of_an_older_recording(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(STEP)
    vramscope("run", "-q", "-o", "out", "s.py", cwd=tmp_path)
    (tmp_path / "s.py").write_text(STEP + KILLED)
    finished = vramscope("run", "-o", "out", "s.py", cwd=tmp_path)
    assert finished.stderr.splitlines()[-1] == "vramscope: recording in out/run.vram.part"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", "run.vram.part"]


def test_a_run_without_a_step_leaves_the_recording_that_another_one_is_making(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "s.py").write_text(WITHOUT_TORCH)
    with RecordingWriter(tmp_path / "out" / "run.vram") as writer:
        finished = vramscope("run", "-o", "out", "s.py", cwd=tmp_path)
        assert "nothing was recorded: the script never imported torch" in finished.stderr
        writer.append(step_recording())


def test_a_killed_run_is_read_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.vram").symlink_to(tmp_path / "elsewhere.vram")
    (tmp_path / "s.py").write_text(STEP + KILLED)
    finished = vramscope("run", "-o", "out", "s.py", cwd=tmp_path)
    assert finished.stderr.splitlines()[-1] == "vramscope: recording in elsewhere.vram.part"


def test_ranks_leave_no_older_recording_that_one_of_them_might_take_for_new(tmp_path: Path) -> None:
    rank = {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    (tmp_path / "s.py").write_text(STEP)
    vramscope("run", "-q", "-o", "out", "s.py", cwd=tmp_path, **rank)
    assert (tmp_path / "out" / "run.rank0.vram").exists()
    (tmp_path / "s.py").write_text("")
    vramscope("run", "-q", "-o", "out", "s.py", cwd=tmp_path, **rank)
    assert not (tmp_path / "out" / "run.rank0.vram").exists()
