"""A workload that runs out of memory, as a user of `compare` meets it."""

from pathlib import Path

import pytest
from tests.cli.command import vramscope

GREEDY = """
import torch
from torch import nn
from vramscope import Workload

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        if self.training:
            x = x + torch.empty(2**50, dtype=torch.uint8).sum()
        return x

def build(batch: int = 16):
    return Workload(Greedy(), torch.randn(batch, 64), lambda y, t: y.sum())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oom")
    (folder / "greedy.py").write_text(GREEDY)
    return folder


def test_compare_prints_the_autopsy_and_keeps_what_led_there(folder: Path) -> None:
    finished = vramscope("compare", "greedy.py:build", "-q", "--no-host", "-o", "out", cwd=folder)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert "1,125,899,906,842,624 B) asked for, in forward, by aten::empty" in finished.stderr
    assert "greedy.py:13" in finished.stderr  # where activations were made: x = layer(x)
    assert "activation checkpointing" in finished.stderr
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("vramscope: forward ran out of memory: RuntimeError")
    assert last.endswith("what led there is in out/training.vram")
    assert (folder / "out" / "out-of-memory.txt").read_text() in finished.stderr


def test_the_kept_recording_can_be_read_again(folder: Path) -> None:
    if not (folder / "out" / "training.vram").exists():
        vramscope("compare", "greedy.py:build", "-q", "--no-host", "--no-lines", "-o", "out", cwd=folder)
    finished = vramscope("report", "out/training.vram", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "incomplete" in finished.stdout
    assert "the recording ends where memory ran out" in finished.stdout
    assert "out of memory on cpu" in finished.stdout
