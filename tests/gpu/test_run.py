"""`run` on a GPU: a script nobody adapted, its backward passes on a thread of autograd's own."""

import json
from pathlib import Path
from typing import Any

import torch

from cli.command import vramscope
from helpers import assert_agrees
from vramscope.ledger.ledger import Ledger
from vramscope.recording.file import read_recording

PLAIN = """
import torch
from torch import nn
from torch.nn import functional
model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 10)).cuda()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(8):
    x, labels = torch.randn(64, 256, device="cuda"), torch.randint(10, (64,), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        loss = functional.cross_entropy(model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


FROM_THE_START = (
    PLAIN
    + """
print(torch.cuda.max_memory_allocated())
"""
)


def recorded(folder: Path, script: str, *options: str) -> tuple[Ledger, str]:
    """A script's run, exact at every event, and what it printed."""
    (folder / "train.py").write_text(script, encoding="utf-8")
    finished = vramscope("run", *options, "-o", "out", "train.py", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    ledger = Ledger(read_recording(folder / "out" / "run.vram"))
    assert_agrees(ledger)
    return ledger, finished.stdout


def test_a_script_is_recorded_from_before_it_has_started_cuda(tmp_path: Path) -> None:
    ledger, peak = recorded(tmp_path, FROM_THE_START, "--all")
    assert ledger.recording.devices[0].name == "cuda:0"
    assert len(ledger.steps) == 8
    assert not ledger.initial_bytes()
    assert ledger.peak().bytes == int(peak)


BESIDE = """
import torch
from torch import nn
model = nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
kept = []
for step in range(4):
    kept.append(torch.ones(1 << 20, device="cuda"))
    optimizer.zero_grad()
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
print(torch.cuda.max_memory_allocated())
"""


def test_a_gpu_beside_a_model_on_the_cpu_is_followed_from_step_to_step(tmp_path: Path) -> None:
    ledger, peak = recorded(tmp_path, BESIDE, "--all")
    assert [device.name for device in ledger.recording.devices] == ["cpu", "cuda:0"]
    assert ledger.allocator_totals(1).max() == int(peak) == 4 * 4 << 20


def test_steps_are_recorded_exactly(tmp_path: Path) -> None:
    ledger, _ = recorded(tmp_path, PLAIN)
    document: Any = json.loads((tmp_path / "out" / "run.json").read_text())
    one = document["passes"]["training"]
    assert one["allocator"]["max_disagreement_bytes"] == 0
    assert sum(one["peak"]["by_category"].values()) == one["peak"]["bytes"]
    assert one["peak"]["by_category"]["optimizer_state"] >= 2 * one["peak"]["by_category"]["parameters"] - 4096
    # before torch 2.12 the workspace of cuBLASLt, of which nothing tells what it is for
    of_lt = (1 << 20) * (tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12))
    assert one["peak"]["by_category"]["unattributed"] == of_lt
    assert len(ledger.steps) == 3
