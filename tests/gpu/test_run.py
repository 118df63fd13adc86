"""`run` on a GPU: a script nobody adapted, its backward passes on a thread of autograd's own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.command import vramscope
from helpers import assert_agrees
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
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


IN_HOOKS = """
import torch
from torch import nn
from torch.nn import functional
model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 10)).cuda()
optimizers = {parameter: torch.optim.AdamW([parameter]) for parameter in model.parameters()}
def step_now(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()
for parameter in model.parameters():
    parameter.register_post_accumulate_grad_hook(step_now)
for step in range(8):
    x, labels = torch.randn(64, 256, device="cuda"), torch.randint(10, (64,), device="cuda")
    functional.cross_entropy(model(x), labels).backward()
"""


# the first two passes are one step: in the second it shows in which order the optimizers take turns
@pytest.mark.parametrize(("options", "steps"), [((), [1, 2, 3]), (("--all",), list(range(7)))])
def test_optimizers_that_step_on_autograds_own_thread_end_steps(tmp_path: Path, options: Any, steps: list[int]) -> None:
    ledger, _ = recorded(tmp_path, IN_HOOKS, *options)
    assert [step.value for step in ledger.steps] == steps
    peak = ledger.composition(ledger.peak(Window.of_steps(ledger.steps[1:])).event)
    # weights of (256, 512) and (512, 10), biases of 512 and 10: whole blocks of 512 bytes but for the last bias
    parameters = 4 * (256 * 512 + 512 * 10 + 512) + 512
    assert peak[Category.PARAMETERS] == parameters
    assert peak[Category.OPTIMIZER_STATE] == 2 * parameters  # the counters of steps are on the CPU
    assert peak[Category.GRADIENTS] == 4 * 256 * 512  # each goes before the next one comes
    assert peak[Category.OPTIMIZER_TEMPORARIES] > 0
    assert not ledger.composition(ledger.steps[-1].last - 1)[Category.GRADIENTS]
    phases = {phase.name for phase in ledger.periods.phases}
    assert phases == {"forward", "backward", "optimizer"}
