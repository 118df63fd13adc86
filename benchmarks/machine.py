"""What a result was measured on."""

import os
import platform
import sys
from pathlib import Path

import torch


def describe_machine() -> str:
    """Processor, cores, threads and the interpreter, in one line."""
    cores = len(os.sched_getaffinity(0))
    threads = f"{torch.get_num_threads()} threads"
    return f"{_processor()}, {cores} cores, {threads}, {platform.system()}, Python {sys.version.split()[0]}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
