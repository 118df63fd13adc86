"""What a tool costs: the same step with and without it, interleaved in one process, so that a busy machine slows all.

Each round times one step without any tool and one under each. The ratio is that of the medians.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers.models import Model
from benchmarks.peers.session import Session
from benchmarks.peers.tools import TOOLS, Timing

UNPROFILED = "unprofiled"


@dataclass(frozen=True)
class Overhead:
    """Medians of several rounds; seconds, and multiples of the unprofiled step."""

    step_seconds: float
    step_ratio: float
    report_seconds: float
    rounds: int


def measure_overhead(model: Model, tools: Sequence[str], rounds: int) -> dict[str, Any]:
    """The overhead of each tool that runs steps, by name."""
    session = Session(model.prepare())
    timings: dict[str, list[Timing]] = {name: [] for name in (UNPROFILED, *tools)}
    _round(session, list(timings))  # warms caches, kernels and imports
    order = list(timings)
    for _ in range(rounds):
        for name, timing in _round(session, order).items():
            timings[name].append(timing)
        order.append(order.pop(0))  # what runs first is not always the same, nor what runs after what
    base = statistics.median(timing.step_seconds for timing in timings[UNPROFILED])
    return {name: asdict(_median(found, base)) for name, found in timings.items() if found}


def _round(session: Session, order: Sequence[str]) -> dict[str, Timing]:
    found = {name: _time(session, name) for name in order}
    return {name: timing for name, timing in found.items() if timing is not None}


def _time(session: Session, name: str) -> Timing | None:
    return Timing(session.step(), 0.0) if name == UNPROFILED else TOOLS[name]().time(session)


def _median(timings: Sequence[Timing], base: float) -> Overhead:
    step = statistics.median(timing.step_seconds for timing in timings)
    report = statistics.median(timing.report_seconds for timing in timings)
    return Overhead(step, step / base, report, len(timings))
