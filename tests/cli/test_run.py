"""Where `run` puts a recording, and what it says of one that was there before."""

from pathlib import Path

from command import vramscope

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
