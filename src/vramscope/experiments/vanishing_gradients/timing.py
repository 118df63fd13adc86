"""What exp costs: the activation functions alone, timed side by side."""

import math
import time
from collections.abc import Callable

import torch

from vramscope.experiments.frame import Settings

REFERENCE = "ReLU"
"""The function whose time is the unit."""
_ELEMENTS = 1 << 14  # 64 KiB of float32: in the cache, so that arithmetic is timed and not memory
_CALLS = 20


def time_functions(settings: Settings) -> dict[str, float]:
    """Seconds per call of each function, on values that lie in the cache."""
    values = torch.linspace(-4, 4, _ELEMENTS, device=settings.device)
    result = torch.empty_like(values)
    functions: dict[str, Callable[[], object]] = {
        REFERENCE: lambda: torch.clamp_min(values, 0, out=result),
        "exp": lambda: torch.exp(values, out=result),
        "sigmoid": lambda: torch.sigmoid(values, out=result),
        "tanh": lambda: torch.tanh(values, out=result),
    }
    rounds = settings.choose(10, 100)
    shortest = dict.fromkeys(functions, math.inf)
    for _ in range(rounds):  # in turn, so that other work on the machine disturbs all alike
        for name, function in functions.items():
            shortest[name] = min(shortest[name], _seconds_per_call(function, settings.device))
    return shortest


def _seconds_per_call(function: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    for _ in range(_CALLS):
        function()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / _CALLS
