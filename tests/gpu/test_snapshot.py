"""A snapshot of this GPU's own, replayed by our rules."""

from pathlib import Path

import torch
from torch import nn

from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.allocator.summary import summarise

GPU = torch.device("cuda", 0)


def test_every_allocation_replays_at_its_address(tmp_path: Path) -> None:
    torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=100_000)
    try:
        model = nn.Sequential(*(nn.Linear(512, 512, device=GPU) for _ in range(4)))
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            model(torch.randn(256, 512, device=GPU)).sum().backward()
            optimizer.step()
        torch.cuda.memory._dump_snapshot(str(tmp_path / "own.pickle"))
    finally:
        torch.cuda.memory._record_memory_history(None)
    summary = summarise(read_snapshot(tmp_path / "own.pickle"))
    assert summary.allocations > 50
    assert summary.matched == summary.allocations
