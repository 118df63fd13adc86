"""How costs grow: with the number of events, of layers, of samples. Each should grow in step with what is done."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.peers.models import prepare_stack
from benchmarks.peers.session import Session
from benchmarks.peers.tools import Vramscope
from vramscope.ledger.summary import summarize
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.merge import merge
from vramscope.recording.parts import Part
from vramscope.recording.recording import Recording
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

_ROUNDS = 5
_REACH = 1 << 48
"""Addresses of one repetition lie below this: those of a process have 47 bits on x86-64."""


@dataclass(frozen=True)
class Curve:
    """Seconds over a number of things."""

    over: str
    of: str
    counts: tuple[int, ...]
    seconds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, and the slope."""
        return {**asdict(self), "slope": self.slope}

    @property
    def slope(self) -> float:
        """Of the logarithms over the upper half, where what is there at any size no longer counts: 1 is linear."""
        middle = len(self.counts) // 2
        counts, seconds = np.log(self.counts[middle:]), np.log(self.seconds[middle:])
        return float(np.polyfit(counts, seconds, 1)[0]) if len(counts) > 1 else 0.0


def grow_events(counts: Sequence[int]) -> list[Curve]:
    """The ledger and its summary over recordings of so many events: one recording after itself, again and again."""
    one = _one_recording()
    found = [_summarized(repeated(one, max(1, count // len(one.events)))) for count in counts]
    events, seconds = zip(*found, strict=True)
    return [Curve("events", "ledger and summary", events, seconds)]


def _one_recording() -> Recording:
    options = WorkloadOptions(batch=2, steps=2)
    recording: Recording = run_pass(resolve("mlp"), options, PassName.TRAINING, ProfilerRecorder(), lambda text: None)
    return recording


def _summarized(recording: Recording) -> tuple[int, float]:
    begin = time.perf_counter()
    summarize(recording)
    return len(recording.events), time.perf_counter() - begin


def repeated(recording: Recording, times: int) -> Recording:
    """A recording after itself so often, on a clock and totals that go on, each time at other addresses."""
    return merge(_repetitions(recording, times))


def _repetitions(recording: Recording, times: int) -> Iterator[Part]:
    (device,) = recording.devices
    growth = device.end_total - device.start_total
    scopes, events, marks = recording.scopes, recording.events, recording.marks
    length = 1 + int(max(scopes.end_ns.max(), events.time_ns.max(), marks.time_ns.max()))
    length -= int(min(scopes.start_ns.min(), events.time_ns.min(), marks.time_ns.min()))
    for number in range(times):
        later, further, more = number * length, number * _REACH, number * growth
        moved = replace(
            recording,
            scopes=replace(scopes, start_ns=scopes.start_ns + later, end_ns=scopes.end_ns + later),
            events=replace(
                events, time_ns=events.time_ns + later, address=events.address + further, total=events.total + more
            ),
            marks=replace(marks, time_ns=marks.time_ns + later, address=marks.address + further),
            devices=(replace(device, start_total=device.start_total + more, end_total=device.end_total + more),),
        )
        yield Part(number, 0, moved)


def grow_layers(counts: Sequence[int]) -> list[Curve]:
    """A step of so many tiny layers: unprofiled, under vramscope, and getting the report."""
    return _step_curves("layers", counts, lambda count: prepare_stack(count, batch=4))


def grow_batch(counts: Sequence[int]) -> list[Curve]:
    """The same over the batch, at 20 layers: vramscope's part should not grow at all."""
    return _step_curves("samples in a batch", counts, lambda count: prepare_stack(20, batch=count))


def _step_curves(over: str, counts: Sequence[int], make: Callable[[int], PreparedWorkload]) -> list[Curve]:
    found = [_step_costs(Session(make(count))) for count in counts]
    names = ("step, unprofiled", "step, under vramscope", "reading out and writing")
    columns = zip(names, zip(*found, strict=True), strict=True)
    return [Curve(over, name, tuple(counts), seconds) for name, seconds in columns]


def _step_costs(session: Session) -> tuple[float, float, float]:
    Vramscope().time(session)
    plain, timings = [], []
    for _ in range(_ROUNDS):
        plain.append(session.step())
        timings.append(Vramscope().time(session))
    step = statistics.median(timing.step_seconds for timing in timings)
    return statistics.median(plain), step, statistics.median(timing.report_seconds for timing in timings)
