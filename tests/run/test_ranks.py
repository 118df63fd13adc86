"""Two real ranks over gloo on the CPU: each its own recording, exact, and one report for both."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import vramscope
from tests.run.scripts import require_exact

COMMON = """
import torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
{wrapping}
optimizer = torch.optim.AdamW(model.parameters())
for step in range(5):
    size = 32 * (rank + 1)
    loss = nn.functional.cross_entropy(model(torch.randn(size, 64)), torch.randint(10, (size,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.destroy_process_group()
"""
DDP = "model = nn.parallel.DistributedDataParallel(model)"
FSDP = """
from torch.distributed.fsdp import fully_shard
mesh = dist.init_device_mesh("cpu", (2,)) if hasattr(dist, "init_device_mesh") else None
for layer in (model[0], model[2], model):
    fully_shard(layer, mesh=mesh)
"""


def documents(folder: Path, wrapping: str) -> list[dict[str, Any]]:
    """The documents of both ranks."""
    (folder / "script.py").write_text(COMMON.format(wrapping=wrapping), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    command += ["-m", "vramscope", "run", "-o", "out", "script.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("Ranks, training") == 1
    return [json.loads((folder / "out" / f"run.rank{rank}.json").read_text()) for rank in range(2)]


def require_merged(folder: Path, by_rank: dict[str, dict[str, Any]]) -> None:
    """`vramscope report FOLDER` says what the ranks' own documents say, and shows the worst rank in full."""
    merged = json.loads(vramscope("report", "out", "--format", "json", cwd=folder).stdout)
    ranked = merged["ranks"]["training"]
    assert ranked["passes"] == {rank: document["passes"]["training"] for rank, document in by_rank.items()}
    assert ranked["passes"][str(ranked["worst_rank"])] == merged["passes"]["training"] == ranked["worst"]
    assert max(ranked["peak_bytes"].values()) == merged["passes"]["training"]["peak"]["bytes"]
    rows = list(csv.DictReader(vramscope("report", "out", "--format", "csv", cwd=folder).stdout.splitlines()))
    for rank, size in ranked["peak_bytes"].items():
        of_rank = [row for row in rows if (row["rank"], row["figure"]) == (rank, "bytes_at_peak")]
        for table in ("category", "site"):
            assert sum(int(row["value"]) for row in of_rank if row["table"] == table) == size
    shown = vramscope("report", "out", cwd=folder).stdout
    assert shown.index("Ranks, training") < shown.index(f"Rank {ranked['worst_rank']}, the highest")
    (folder / "out" / "run.rank1.vram").rename(folder / "elsewhere.vram")
    assert "No recording of rank 1" in vramscope("report", "out", cwd=folder).stdout


@pytest.mark.parametrize("wrapping", [DDP, FSDP], ids=["ddp", "fsdp2"])
def test_two_ranks(tmp_path: Path, wrapping: str) -> None:
    first, second = documents(tmp_path, wrapping)
    for document in (first, second):
        require_exact(document, "training")
    peaks = [document["passes"]["training"]["peak"]["bytes"] for document in (first, second)]
    ranked = first["ranks"]["training"]
    assert ranked["peak_bytes"] == {"0": peaks[0], "1": peaks[1]}
    assert ranked["imbalance"] == max(peaks) / (sum(peaks) / 2)
    require_merged(tmp_path, {"0": first, "1": second})
    forward = [document["passes"]["training"]["phases"]["forward"]["by_category"] for document in (first, second)]
    if wrapping == DDP:
        # one bucket of the size of all 19,210 gradients, kept over all steps
        assert [level["communication"] for level in forward] == [4 * 19210] * 2
    else:
        # the first layer's gathered parameters at least: 64 * 256 + 256 numbers of 4 bytes
        assert min(level["communication"] for level in forward) >= 4 * 16640
