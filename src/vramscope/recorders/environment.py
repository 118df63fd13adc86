"""What a recording says of the machine and the program that made it."""

import platform
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from vramscope import __version__


def describe_environment() -> dict[str, Any]:
    """Versions, platform and command of this process, in plain JSON types."""
    return {
        "vramscope": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "recorded_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def describe_device(device: torch.device) -> str:
    """The device's name as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor_name()


def device_memory(device: torch.device) -> int:
    """The bytes of memory that a device has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def _processor_name() -> str:
    """The processor's model name on Linux, what Python knows elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
