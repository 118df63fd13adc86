"""A script's run in figures, read part by part: its passes, its steps, what grew, and what was only counted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import CODE, Category
from vramscope.ledger.comparison import OF_ONE_PASS
from vramscope.ledger.growth import Growth, GrowthSum
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Period, Window
from vramscope.ledger.summary import AllocatorCheck, Level, PassSummary, summarize_ledger
from vramscope.recording.merge import merge
from vramscope.recording.parts import Part
from vramscope.recording.recording import Recording

PASSES = ("training", "inference", "other")
_STEP_SUFFIX, _LIVE, _CHILD = " step", "live bytes", "rss of "
_CHUNK_EVENTS = 200_000
"""Parts are joined up to so many events: 512 MiB hold the ledger of some five times as many."""


@dataclass(frozen=True)
class StepRow:
    """One recorded step: its peak, and what it left behind more than it found; bytes."""

    index: int
    kind: str
    peak_bytes: int
    retained_growth_bytes: int


@dataclass(frozen=True)
class CountedSteps:
    """The steps of one kind that were only counted: their live bytes at the first, the last and the highest end."""

    kind: str
    steps: int
    first_index: int
    last_index: int
    first_bytes: int
    last_bytes: int
    highest_bytes: int


@dataclass(frozen=True)
class RunSummary:
    """A run of a script."""

    environment: Mapping[str, Any]
    workload: Mapping[str, Any]
    passes: Mapping[str, PassSummary]
    steps: tuple[StepRow, ...]
    growth: tuple[Growth, ...]
    counted: tuple[CountedSteps, ...]
    children: Mapping[str, int]
    """The most that each further process of the script had resident, in bytes."""
    windows: int
    notes: tuple[str, ...]
    complete: bool


def summarize_run(parts: Iterable[Part]) -> RunSummary:
    """The figures of a run, in memory that does not grow with its length."""
    collector = _Collector()
    for window, chunk in _chunks(parts, collector):
        collector.add(window, chunk)
    return collector.summary()


def _chunks(parts: Iterable[Part], collector: "_Collector") -> Iterator[tuple[int, list[Part]]]:
    """Consecutive parts of one window and one kind of step, as many as fit into a ledger."""
    chunk: list[Part] = []
    events = 0
    for part in parts:
        collector.note(part.recording)
        if not len(part.recording.scopes) and not len(part.recording.events):
            continue
        size = len(part.recording.events)
        if chunk and (_key(chunk[-1]) != _key(part) or events + size > _CHUNK_EVENTS):
            yield chunk[0].window, chunk
            chunk, events = [], 0
        chunk.append(part)
        events += size
    if chunk:
        yield chunk[0].window, chunk


def _key(part: Part) -> tuple[int, str]:
    return part.window, str(part.recording.workload.get("pass", ""))


@dataclass
class _Collector:
    """Takes in one chunk of a run after another."""

    environment: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    passes: dict[str, PassSummary] = field(default_factory=dict)
    steps: list[StepRow] = field(default_factory=list)
    growth: GrowthSum = field(default_factory=GrowthSum)
    counted: dict[str, CountedSteps] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    windows: set[int] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)
    complete: bool = True
    carried: "_Carried" = field(default_factory=lambda: _Carried(-1, {}))

    def note(self, recording: Recording) -> None:
        """The facts and counters of one part."""
        self.environment.update(recording.environment)
        self.workload.update({key: value for key, value in recording.workload.items() if key not in OF_ONE_PASS})
        self.notes.update(dict.fromkeys(recording.notes))
        self.complete = self.complete and recording.complete
        self._count(recording)

    def _count(self, recording: Recording) -> None:
        counters, kind, index = recording.counters, "", 0
        for number, value in zip(counters.name.tolist(), counters.value.tolist(), strict=True):
            name = recording.strings[number]
            if name.endswith(_STEP_SUFFIX):
                kind, index = name.removesuffix(_STEP_SUFFIX), value
            elif name == _LIVE:
                self._add_count(kind, index, value)
            elif name.startswith(_CHILD):
                child = name.removeprefix(_CHILD)
                self.children[child] = max(self.children.get(child, 0), value)

    def _add_count(self, kind: str, index: int, live_bytes: int) -> None:
        known = self.counted.get(kind)
        if known is None:
            self.counted[kind] = CountedSteps(kind, 1, index, index, live_bytes, live_bytes, live_bytes)
            return
        highest = max(known.highest_bytes, live_bytes)
        self.counted[kind] = replace(
            known, steps=known.steps + 1, last_index=index, last_bytes=live_bytes, highest_bytes=highest
        )

    def add(self, window: int, chunk: list[Part]) -> None:
        """The ledger of one chunk, in figures."""
        self.windows.add(window)
        ledger = Ledger(merge(chunk))
        self.carried.hand_to(window, ledger)
        self.carried = _Carried.of(window, ledger)
        name = str(ledger.recording.workload.get("pass") or PASSES[-1])
        self.steps += [_step_row(ledger, step, name) for step in ledger.steps]
        self.growth.add(ledger)
        summary = summarize_ledger(ledger)
        self.passes[name] = _combined(self.passes[name], summary) if name in self.passes else summary

    def summary(self) -> RunSummary:
        """All of it."""
        return RunSummary(
            environment=self.environment,
            workload=self.workload,
            passes={name: self.passes[name] for name in PASSES if name in self.passes},
            steps=tuple(self.steps),
            growth=self.growth.rows(),
            counted=tuple(self.counted.values()),
            children=self.children,
            windows=len(self.windows),
            notes=tuple(self.notes),
            complete=self.complete,
        )


@dataclass(frozen=True)
class _Carried:
    """The categories of what was alive when a chunk ended, for the chunk that continues it."""

    window: int
    codes: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, window: int, ledger: Ledger) -> "_Carried":
        """What is alive at a ledger's end."""
        blocks = ledger.blocks
        alive = np.flatnonzero(blocks.death >= len(ledger))
        places = zip(blocks.device[alive].tolist(), blocks.address[alive].tolist(), strict=True)
        return cls(window, dict(zip(places, ledger.category[alive].tolist(), strict=True)))

    def hand_to(self, window: int, ledger: Ledger) -> None:
        """Give blocks that are older than a chunk, and of which it knows nothing itself, what was known of them."""
        if window != self.window:
            return
        unknown = (ledger.blocks.birth == BEFORE) & (ledger.category == CODE[Category.UNATTRIBUTED])
        for row in np.flatnonzero(unknown).tolist():
            place = int(ledger.blocks.device[row]), int(ledger.blocks.address[row])
            ledger.category[row] = self.codes.get(place, CODE[Category.UNATTRIBUTED])


def _step_row(ledger: Ledger, step: Period, kind: str) -> StepRow:
    begin = ledger.beginning(step).bytes
    after = Window(step.last, step.last, step.end_ns)
    end = ledger.beginning(after).bytes  # in which whatever comes next begins
    peak = ledger.peak(step)
    return StepRow(step.value, kind, peak.bytes, end - begin)


def _combined(first: PassSummary, second: PassSummary) -> PassSummary:
    """Two stretches of one pass: the one with the higher peak, the checks and the highest phases of both.

    A stretch that holds the cold step alone gives that to one of steady steps, and no figure besides.
    """
    steady = [stretch for stretch in (first, second) if stretch.steady_steps] or [first, second]
    higher = max(steady, key=lambda stretch: stretch.peak.bytes)
    checks = [stretch.allocator for stretch in steady]
    return replace(
        higher,
        allocator=AllocatorCheck(
            peak_bytes=max(check.peak_bytes for check in checks),
            events=sum(check.events for check in checks),
            max_disagreement_bytes=max(stretch.allocator.max_disagreement_bytes for stretch in (first, second)),
        ),
        phases=_highest(*(stretch.phases for stretch in steady)),
        cold=first.cold or second.cold,
        gradients_peak_bytes=max(stretch.gradients_peak_bytes for stretch in steady),
        steady_steps=first.steady_steps + second.steady_steps,
        notes=tuple(dict.fromkeys(first.notes + second.notes)),
        complete=first.complete and second.complete,
    )


def _highest(*stretches: Mapping[str, Level]) -> dict[str, Level]:
    """The highest level of each phase."""
    levels: dict[str, Level] = {}
    for name, level in (found for stretch in stretches for found in stretch.items()):
        if name not in levels or level.peak_bytes > levels[name].peak_bytes:
            levels[name] = level
    return levels
