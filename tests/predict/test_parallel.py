"""Several GPUs on paper: one rank predicted on the CPU's rules against two real ones over gloo, and ZeRO's formulas."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from cli.command import json_of, refused
from helpers import FLOAT32, assert_agrees
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.lineage import nearest
from vramscope.ledger.summary import summarize_ledger
from vramscope.predict.estimate import predict_on_cpu, predict_passes
from vramscope.predict.gpus import find_gpu
from vramscope.predict.parallel import Parallel, Ranks
from vramscope.predict.setup import Setup
from vramscope.recording.collection import read_passes
from vramscope.recording.recording import NO_SCOPE
from vramscope.workloads.workload import WorkloadOptions

GPU = find_gpu("a100-80gb")
PARAMETERS = 64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
FACTORY = """
import torch
from torch import nn
from vramscope import Workload

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 256), nn.Linear(256, 128)])
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)

def build():
    return Workload(Net(), torch.randn(32, 64), nn.functional.cross_entropy, torch.randint(10, (32,)))
"""
SCRIPT = """
import torch, torch.distributed as dist
from torch import nn
from net import build
dist.init_process_group("gloo")
torch.manual_seed(0)
workload = build()
model, inputs, targets = workload.model, workload.inputs, workload.targets
{wrapping}
optimizer = torch.optim.AdamW(model.parameters())
for step in range(6):
    optimizer.zero_grad()
    outputs = model(inputs)
    loss = nn.functional.cross_entropy(outputs, targets)
    loss.backward()
    optimizer.step()
    del outputs, loss
dist.destroy_process_group()
"""
WRAPPED = {
    "ddp": "model = nn.parallel.DistributedDataParallel(model)",
    "small buckets": "model = nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.05)",
    "bucket view": "model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)",
    "fsdp2": """
from torch.distributed.fsdp import fully_shard
for part in (*model.layers, model):
    fully_shard(part)
""",
}
RANKS = {
    "ddp": Ranks(Parallel.DDP, 2),
    "small buckets": Ranks(Parallel.DDP, 2, bucket_cap_mb=0.05),
    "bucket view": Ranks(Parallel.DDP, 2, bucket_view=True),
    "fsdp2": Ranks(Parallel.FSDP2, 2),
}


QUICK = ("ddp", "fsdp2")
LONG = pytest.mark.skipif(
    "VRAMSCOPE_TEST_RANKS" not in os.environ, reason="two more pairs of ranks: set VRAMSCOPE_TEST_RANKS to run them"
)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(FACTORY, encoding="utf-8")
    return f"{tmp_path / 'net.py'}:build"


def measured(folder, wrapping):
    """The ledger of the first rank's training step."""
    (folder / "script.py").write_text(SCRIPT.format(wrapping=wrapping), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    command += ["-m", "vramscope", "run", "-q", "-o", "out", "script.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return Ledger(read_passes(folder / "out" / "run.rank0.vram")["training"])


def of_the_program(ledger, buffers_stay):
    """Which blocks the program itself holds, as far as a recording over gloo can tell.

    Not inputs, which a script's recording does not know as such if they are older. Not scratch inside one operator. Not
    what a collective makes: gloo copies what it sends. And not buffers that outlive their step where none should:
    gloo's own thread let go of them last, and no profiler sees what that one frees.
    """
    scopes, strings = ledger.recording.scopes, ledger.recording.strings
    collective = np.array([text.startswith(("c10d::", "gloo:")) for text in strings])[scopes.name]
    inside = nearest(np.append(scopes.parent, NO_SCOPE), np.append(collective, False)) >= 0
    chosen = ~inside[ledger.blocks.birth_scope]
    for category in (Category.INPUTS, Category.WORKSPACE):
        chosen &= ~ledger.is_category(category)
    if not buffers_stay:
        ends = np.array([step.last for step in ledger.steps])
        step_of_birth = np.searchsorted(ends, ledger.blocks.birth, side="right")
        outlives = ledger.blocks.death >= np.append(ends, len(ledger))[step_of_birth]
        chosen &= ~(outlives & ledger.is_category(Category.COMMUNICATION))
    return chosen


def peaks(ledger, buffers_stay):
    """The most bytes that the program holds in each phase of the steady steps."""
    chosen = of_the_program(ledger, buffers_stay)
    found = {}
    for phase in ("forward", "backward", "optimizer"):
        periods = ledger.periods.named(phase, ledger.steps[1:])
        found[phase] = max(ledger.peak_of(chosen, period).bytes for period in periods)
    return found


def predicted_on_cpu(target, ranks):
    recording = predict_on_cpu(target, WorkloadOptions(steps=2), ("training",), setup=Setup(ranks=ranks))["training"]
    ledger = Ledger(recording)
    assert_agrees(ledger)
    return ledger


@pytest.mark.parametrize("how", [pytest.param(how, marks=() if how in QUICK else LONG) for how in WRAPPED])
def test_a_rank_holds_what_a_real_one_holds(net, tmp_path, how):
    buffers_stay = how != "fsdp2"
    found = peaks(predicted_on_cpu(net, RANKS[how]), buffers_stay)
    for _ in range(3):  # gloo's thread may be the last to let go of what the peak is made of, and then it is not seen
        expected = peaks(measured(tmp_path, WRAPPED[how]), buffers_stay)
        if all(expected[phase] >= found[phase] for phase in found):
            break
    # the ranks agree on the sizes of their buckets in a tensor of 4 bytes each, which gloo's thread may free unseen
    most = 4 * len(bucket_sizes_of_rank(RANKS[how])) if buffers_stay else 0
    for phase, size in expected.items():
        assert 0 <= size - found[phase] <= most, (phase, found, expected)


def bucket_sizes_of_rank(ranks):
    """Bytes of each bucket of the test's network, filled from the last parameter backwards up to the cap."""
    sizes, size, cap = [], 0, (ranks.bucket_cap_mb or 25) * 2**20
    for numbers in (10, 128 * 10, 128, 256 * 128, 256, 64 * 256):
        size += numbers * FLOAT32
        if size >= cap:
            sizes, size = [*sizes, size], 0
    return [*sizes, size] if size else sizes


def test_small_buckets_are_filled_in_the_order_of_the_gradients(net):
    # 0.05 MiB is 52,428 bytes: head 5,160, then 512 and 131,072 of the second layer make 136,744; then 1,024 and 65,536
    assert bucket_sizes_of_rank(RANKS["small buckets"]) == [136744, 66560]
    ledger = predicted_on_cpu(net, RANKS["small buckets"])
    buckets = ledger.is_category(Category.COMMUNICATION) & (ledger.blocks.birth > ledger.steps[0].last)
    assert sorted(ledger.blocks.size[buckets].tolist()) == [66560, 136744]


def training(net, setup=None, **options):
    chosen = WorkloadOptions(**{"steps": 1, **options})
    ledger = Ledger(predict_passes(net, chosen, GPU, ("training",), setup=setup or Setup())["training"])
    assert_agrees(ledger)
    assert summarize_ledger(ledger).peak.by_category[Category.UNATTRIBUTED] == 0
    return ledger


def requested(ledger, category, phase="optimizer"):
    """Bytes asked for in a category at the end of the last step's phase."""
    period = ledger.periods.named(phase, ledger.steps[-1:])[0]
    return ledger.composition(period.last - 1, requested=True)[category]


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_sharding_divides_what_zero_3_divides(net, world_size):
    """ZeRO stage 3: parameters, gradients and Adam's two moments, 16 bytes of float32 each, over N ranks.

    Source: S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020,
    section 3.3. The first dimension of every parameter is cut into N equal pieces, the last of which are padded: 10
    rows of the head over 4 ranks are 3 each, over 8 ranks 2.
    """
    ledger = training(net, Setup(ranks=Ranks(Parallel.FSDP2, world_size)))
    rows = -(-10 // world_size)
    shard = (64 * 256 + 256 + 256 * 128 + 128) // world_size + rows * (128 + 1)
    assert requested(ledger, Category.PARAMETERS) == FLOAT32 * shard
    assert requested(ledger, Category.OPTIMIZER_STATE) == 2 * FLOAT32 * shard
    assert requested(ledger, Category.GRADIENTS) == FLOAT32 * shard


def test_replicas_divide_nothing_and_add_their_buckets(net):
    """ZeRO's baseline: 16 bytes of float32 for each parameter on every rank; DDP's buckets are 4 more."""
    ledger = training(net, Setup(ranks=Ranks(Parallel.DDP, 4)))
    sizes = {category: requested(ledger, category) for category in Category}
    assert sizes[Category.PARAMETERS] == sizes[Category.GRADIENTS] == sizes[Category.COMMUNICATION]
    assert sizes[Category.PARAMETERS] == FLOAT32 * PARAMETERS
    assert sizes[Category.OPTIMIZER_STATE] == 2 * FLOAT32 * PARAMETERS


def test_gradients_that_are_views_of_buckets_cost_nothing_more(net):
    ledger = training(net, Setup(ranks=Ranks(Parallel.DDP, 4, bucket_view=True)))
    assert requested(ledger, Category.COMMUNICATION) == 0
    assert requested(ledger, Category.GRADIENTS) == FLOAT32 * PARAMETERS


def test_without_resharding_gathered_parameters_stay_until_backward(net):
    def held(reshard):
        ranks = Ranks(Parallel.FSDP2, 4, reshard_after_forward=reshard)
        return requested(training(net, Setup(ranks=ranks)), Category.PARAMETERS, "forward")

    layers, shard_of_head = 64 * 256 + 256 + 256 * 128 + 128, 3 * 129
    # the head is part of the root, whose gathered parameters stay in any case: 12 rows of 129 numbers with padding
    assert held(True) == FLOAT32 * (layers // 4 + shard_of_head + 12 * 129)
    assert held(False) == held(True) + FLOAT32 * layers


def test_a_rank_of_accumulated_micro_batches_is_predicted_too(net):
    ledger = training(net, Setup(ranks=Ranks(Parallel.FSDP2, 2)), accumulate=2)
    assert requested(ledger, Category.GRADIENTS) == FLOAT32 * PARAMETERS // 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--world-size", "4"), "--world-size does nothing on one GPU"),
        (("--parallel", "fsdp2", "--bucket-view"), "belong to --parallel ddp"),
        (("--parallel", "ddp", "--no-reshard"), "belongs to --parallel fsdp2"),
        (("--parallel", "ddp", "--world-size", "1"), "--world-size"),
        (("--parallel", "zero"), "--parallel"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, arguments, said):
    assert said in refused("estimate", "mlp", "--gpu", "t4-16gb", *arguments, cwd=tmp_path)


def test_the_command_says_what_is_not_modelled(tmp_path):
    arguments = ("--gpu", "a100-40gb", "--parallel", "ddp", "--world-size", "8", "--steps", "1")
    document = json_of("estimate", "mlp", *arguments, cwd=tmp_path)
    assert list(document["passes"]) == ["training"]
    training = document["passes"]["training"]
    assert any("NCCL" in note for note in training["notes"])
    assert (document["workload"]["parallel"], document["workload"]["world_size"]) == ("ddp", 8)
    low, high = training["devices"][0]["process_used_bytes_range"]
    # context and NCCL: 666,632,192 - 287,047,680 and 4.0 - 0.544 GB
    assert high - low == 379584512 + 3456 * 10**6
