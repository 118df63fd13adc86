"""Code run on fake tensors by the rules of a GPU, and what it allocates there."""

from itertools import accumulate

import torch

from vramscope.predict.cuda_kernels import cuda_kernels
from vramscope.predict.cuda_rules import cuda_rules
from vramscope.predict.gpus import find_gpu
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.recorder import VirtualRecorder

GPU = find_gpu("a100-80gb")
WORKSPACE = GPU.cublas_workspace_bytes
SEEDS = [8, 8] if TORCH >= (2, 14) else []
"""Seed and offset of attention that drops nothing out: in host memory before torch 2.14."""
ROWS = [4, 24, 100]
"""Rows of the matrices below, each [rows, 10]."""


def born(make, run, gpu=GPU) -> list[int]:
    """Requested bytes of what ``run`` makes, given what ``make`` made before."""
    return [size for size in events(make, run, gpu) if size > 0]


def most(make, run, gpu=GPU) -> int:
    """The most bytes, as requested, that there are at once of what ``run`` makes."""
    return max(accumulate(events(make, run, gpu)))


def events(make, run, gpu=GPU) -> list[int]:
    """Requested bytes of what ``run`` makes, and negative ones of what goes meanwhile."""
    recorder = VirtualRecorder(cuda_rules(gpu), keep_real=False, kernels=cuda_kernels(gpu))
    recorder.start()
    try:
        made = make()
        with recorder.phase("forward"):
            run(made)
        recording = recorder.finish()
    finally:
        recorder.abandon()
    forward = recording.strings.index("forward")
    begin = recording.scopes.start_ns[recording.scopes.name == forward].min()
    events = recording.events
    return events.requested[events.time_ns >= begin].tolist()


def matrix(rows: int, dtype=torch.float32):
    return lambda: torch.empty(rows, 10, dtype=dtype, requires_grad=True)
