"""Shared by the tests of ledger, recorders and exactness: recordings written by hand, and recordings of real runs."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.live import storages as storages
from benchmarks.live import tensors_within as tensors_within
from benchmarks.live import walk_live as walk_live
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
from vramscope.recorders.labels import Label
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.recording import (
    NO_SCOPE,
    UNKNOWN,
    Counters,
    Device,
    Events,
    Marks,
    Recording,
    ScopeKind,
    Scopes,
    Seeds,
    Source,
)
from vramscope.recording.recording import MarkKind as MarkKind
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

FLOAT32 = 4
INT64 = 8

gc.freeze()  # torch's own objects are no garbage: collecting, which happens before every recording, then takes no time
BASE_TOTAL = 1000
"""What the allocator of a hand-written recording had counted before: a total is never to be taken for bytes alive."""


class Script:
    """Writes a recording by hand, one happening after another; each takes one tick of the clock.

    The allocator's own totals are kept as a real allocator would keep them.
    """

    def __init__(self, devices: int = 1) -> None:
        self._strings = {"": 0}
        self._scopes: list[list[int]] = []
        self._events: list[tuple[int, ...]] = []
        self._marks: list[tuple[int, ...]] = []
        self._seeds: list[list[int]] = []
        self._open: list[int] = []
        self._periods: list[int] = []
        self._totals = [BASE_TOTAL] * devices
        self._now = 0
        self.modules: list[list[str]] = []

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _number(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def alloc(self, address: int, size: int, device: int = 0, requested: int | None = None) -> int:
        """An allocation; gives the event's row."""
        return self._event(address, size, device, size if requested is None else requested)

    def free(self, address: int, size: int, device: int = 0, requested: int | None = None) -> int:
        """A free; gives the event's row."""
        return self._event(address, -size, device, -size if requested is None else -requested)

    def _event(self, address: int, size: int, device: int, requested: int) -> int:
        self._totals[device] += size
        scope = self._open[-1] if self._open else NO_SCOPE
        total = self._totals[device]
        self._events.append((self._tick(), address, size, requested, device, scope, total, total))
        return len(self._events) - 1

    def seed(self, address: int, size: int, device: int = 0) -> None:
        """A block that is older than the recording."""
        self._seeds.append([address, size, size, device, UNKNOWN])

    def gone(self, address: int, device: int = 0) -> None:
        """A seeded block is found to be gone; the allocator says nothing of it."""
        for seed in self._seeds:
            if (seed[0], seed[3]) == (address, device):
                seed[4] = self._tick()

    def mark(self, kind: MarkKind, name: str, address: int, owner: str = "", size: int = 0, device: int = 0) -> None:
        """Something seen at an address."""
        row = (self._tick(), address, int(kind), self._number(name), self._number(owner), size, device)
        self._marks.append(row)

    @contextmanager
    def scope(self, kind: ScopeKind, name: str, sequence: int = UNKNOWN, thread: int = 1) -> Iterator[int]:
        """A scope inside those that are open; gives its row."""
        row = self._begin(self._open, kind, name, sequence, thread, 0)
        yield row
        self._end(self._open)

    def module(self, path: str) -> Any:
        """A module's forward."""
        return self.scope(ScopeKind.MODULE, path)

    def operator(self, name: str, sequence: int = UNKNOWN) -> Any:
        """An operator; with gradients enabled it has a sequence number."""
        return self.scope(ScopeKind.OPERATOR, name, sequence)

    def node(self, name: str, sequence: int = UNKNOWN) -> Any:
        """The engine's evaluation of one backward node."""
        return self.scope(ScopeKind.AUTOGRAD_NODE, name, sequence)

    @contextmanager
    def line(self, line: int, file: str = "model.py", function: str = "forward") -> Iterator[None]:
        """A Python line that is running."""
        self._begin(self._open, ScopeKind.PYTHON_FRAME, f"{file}|{function}", UNKNOWN, 1, line)
        yield
        self._end(self._open)

    @contextmanager
    def phase(self, name: str, value: int = 0) -> Iterator[None]:
        """A phase; no ancestor of operators, as in a real recording."""
        self._begin(self._periods, ScopeKind.PHASE, name, UNKNOWN, 1, value)
        yield
        self._end(self._periods)

    @contextmanager
    def step(self, index: int) -> Iterator[None]:
        """A step of the workload."""
        self._begin(self._periods, ScopeKind.STEP, "step", UNKNOWN, 1, index)
        yield
        self._end(self._periods)

    def _begin(self, stack: list[int], kind: ScopeKind, name: str, sequence: int, thread: int, value: int) -> int:
        parent = stack[-1] if stack else NO_SCOPE
        self._scopes.append([parent, kind, self._number(name), self._tick(), UNKNOWN, thread, sequence, value])
        stack.append(len(self._scopes) - 1)
        return stack[-1]

    def _end(self, stack: list[int]) -> None:
        self._scopes[stack.pop()][4] = self._tick()

    def recording(self) -> Recording:
        """What was written so far."""
        names = [f"cuda:{number}" if number else "cpu" for number in range(len(self._totals))]
        return Recording(
            source=Source.PROFILER,
            scopes=Scopes.from_rows([tuple(row) for row in self._scopes]),
            events=Events.from_rows(self._events),
            marks=Marks.from_rows(self._marks),
            counters=Counters.from_rows([]),
            seeds=Seeds.from_rows([(*seed, -1)[:5] for seed in self._seeds]),
            strings=tuple(self._strings),
            devices=tuple(Device(n, n, BASE_TOTAL, t) for n, t in zip(names, self._totals, strict=True)),
            workload={"modules": self.modules},
        )

    def ledger(self) -> Ledger:
        """The ledger of what was written so far."""
        return Ledger(self.recording())


def without_event(recording: Recording, row: int) -> Recording:
    """The recording with one allocator event lost."""
    keep = np.arange(len(recording.events)) != row
    return replace(recording, events=recording.events.take(keep))


def with_resized_event(recording: Recording, row: int, more_bytes: int) -> Recording:
    """The recording with one event's size grown by some bytes (in magnitude); the allocator's totals are left alone."""
    size = recording.events.size.copy()
    size[row] += more_bytes * np.sign(size[row])
    return replace(recording, events=replace(recording.events, size=size))


def record_pass(target: str, name: str = "training", *, lines: bool = False, **options: Any) -> Ledger:
    """One canonical pass of a target in this process."""
    gc.collect()
    recorder = ProfilerRecorder(lines=lines)
    return Ledger(run_pass(resolve(target), WorkloadOptions(**options), PassName(name), recorder, lambda _: None))


@contextmanager
def recording_of(**how: Any) -> Iterator["Running"]:
    """Record what the body does; afterwards the recording and its ledger are there."""
    gc.collect()
    seeds: Iterable[Label] = how.pop("seeds", ())
    running = Running(ProfilerRecorder(**how))
    running.recorder.start(seeds)
    try:
        yield running
        running.finish()
    except BaseException:
        running.recorder.abandon()
        raise


@dataclass
class Running:
    """A recorder at work, and after that what it recorded."""

    recorder: ProfilerRecorder
    recording: Recording | None = None

    def finish(self) -> None:
        """End the recording, once."""
        if self.recording is None:
            self.recording = self.recorder.finish()

    @property
    def ledger(self) -> Ledger:
        """The ledger of the finished recording."""
        assert self.recording is not None, "the recording is not finished"
        return Ledger(self.recording)


def assert_agrees(ledger: Ledger) -> None:
    """The ledger equals the allocator's own running total at every event, category by category and block by block."""
    for device in range(len(ledger.recording.devices)):
        assert ledger.max_disagreement_bytes(device) == 0
        _, bytes_by_category = ledger.timeline(device)
        np.testing.assert_array_equal(bytes_by_category.sum(axis=1), ledger.allocator_totals(device))


def steady(ledger: Ledger) -> Window:
    """The steps after the cold one."""
    return Window.of_steps(ledger.steps[1:])


def most_gradients(ledger: Ledger) -> list[int]:
    """The most bytes of gradients at any one time in each step."""
    return [max(ledger.composition(e)[Category.GRADIENTS] for e in range(s.first, s.last)) for s in ledger.steps]


def describe_blocks(ledger: Ledger, chosen: Any) -> str:
    """Blocks with size, phase of birth and ancestors: what a failing test should show."""
    lines = []
    for block in np.flatnonzero(chosen)[:8].tolist():
        birth = int(ledger.blocks.birth[block])
        names, scope = [], int(ledger.blocks.birth_scope[block])
        while scope >= 0:
            names.append(ledger.recording.strings[ledger.recording.scopes.name[scope]])
            scope = int(ledger.recording.scopes.parent[scope])
        lines.append(
            f"{ledger.blocks.size[block]} bytes in {ledger.phase_at(birth)}: {' < '.join(names) or 'no scope'}"
        )
    return "\n".join(lines)


def assert_exact_pass(ledger: Ledger) -> None:
    """What every pass promises: exact sums, and in the steady steps not one byte without an owner, ever."""
    assert_agrees(ledger)
    window = steady(ledger)
    peak = ledger.peak(window)
    allocator = ledger.recording.events.total[window.first : window.last] - ledger.recording.devices[0].start_total
    assert peak.bytes == allocator.max() + ledger.initial_bytes()
    assert sum(ledger.composition(peak.event).values()) == peak.bytes
    blocks, unattributed = ledger.blocks, ledger.is_category(Category.UNATTRIBUTED)
    seen = unattributed & (blocks.birth < window.last) & (blocks.death > window.first)
    assert not seen.any(), describe_blocks(ledger, seen)
