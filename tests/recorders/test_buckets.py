"""Gradient buckets of DistributedDataParallel are communication wherever a model is profiled."""

import pytest
from tests.processes import python

from helpers import Script
from vramscope.recorders.buckets import DDP_FORWARD, with_buckets
from vramscope.recording.recording import MarkKind, ScopeKind

DDP = """
import sys
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import vramscope

torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
distributed = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters())
with vramscope.profile(distributed if sys.argv[1] == "wrapper" else model, optimizer) as profile:
    for index in range(3):
        with profile.step(index):
            optimizer.zero_grad()
            distributed(torch.ones(2, 64)).sum().backward()
            optimizer.step()
print(profile.summary.peak.by_category["communication"], profile.summary.activations.held_by_python_bytes)
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("given", ["wrapper", "module"])
def test_buckets_are_communication_whichever_model_is_given(given: str) -> None:
    communication, held = map(int, python("-c", DDP, given).split())
    # one bucket for all parameters; a variable holds the loss, and DDP some sizes
    assert communication == 4 * (64 * 128 + 128 + 128 * 10 + 10)
    assert held < 100


def test_only_what_ddp_itself_makes_in_the_size_of_a_bucket_is_one() -> None:
    script = Script()
    script.alloc(0x10, 64)  # before its forward
    with script.scope(ScopeKind.USER, DDP_FORWARD), script.operator("aten::empty"):
        script.alloc(0x20, 64)
        script.alloc(0x30, 32)
        with script.module("a"), script.operator("aten::mul"):
            script.alloc(0x40, 64)
        with script.node("MulBackward0"):
            script.alloc(0x50, 64)
    script.mark(MarkKind.PARAMETER, "a.weight", 0x40)
    marks = with_buckets(script.recording(), {64, 128}).marks
    assert list(zip(marks.address.tolist(), marks.kind.tolist(), strict=True)) == [
        (0x40, MarkKind.PARAMETER),
        (0x20, MarkKind.COMMUNICATION),
    ]


def test_without_buckets_or_ddp_nothing_is_marked() -> None:
    script = Script()
    script.alloc(0x10, 64)
    recording = script.recording()
    assert with_buckets(recording, {64}) is recording
    assert with_buckets(recording, set()) is recording
