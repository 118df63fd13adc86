"""Records three training steps of a small transformer with torch's own history and dumps the snapshot."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

import torch  # noqa: E402 - the path comes first

import workloads  # noqa: E402 - as above

torch.manual_seed(0)
torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=100_000)
workload = workloads.eager(4)
model = workload.model.cuda()
optimizer = torch.optim.AdamW(model.parameters())
tokens = workload.inputs.cuda()
for _ in range(3):
    optimizer.zero_grad(set_to_none=True)
    workload.loss(model(tokens), tokens).backward()
    optimizer.step()
torch.cuda.memory._dump_snapshot(sys.argv[1])
