"""Gradient buckets of DistributedDataParallel are communication wherever a model is profiled."""

import pytest
from tests.processes import python

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
