"""What a result was measured on."""

import os
import platform
import sys

import torch

from vramscope.recorders.environment import describe_device


def describe_machine() -> str:
    """Processor, cores, threads and the interpreter, in one line."""
    processor, cores = describe_device(torch.device("cpu")), len(os.sched_getaffinity(0))
    threads = f"{torch.get_num_threads()} threads"
    return f"{processor}, {cores} cores, {threads}, {platform.system()}, Python {sys.version.split()[0]}"
