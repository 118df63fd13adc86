"""Steps and phases as the events see them: which one each event falls into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from vramscope.recording.recording import NO_SCOPE, UNKNOWN, Integers, PhaseName, Recording, ScopeKind

NO_PHASE = NO_STEP = -1
PHASES = tuple(PhaseName)
PHASE_CODE = {phase: code for code, phase in enumerate(PHASES)}


class Stretch(Protocol):
    """The events with rows in ``[first, last)``; it begins with the state just before the first of them.

    ``start_ns`` is when it begins, `UNKNOWN` where that is not told: what was found gone by then, silently and since
    the last event, does not count in it.
    """

    @property
    def first(self) -> int:
        """Row of the first event."""

    @property
    def last(self) -> int:
        """The row after that of the last one."""

    @property
    def start_ns(self) -> int:
        """The time, in ns of the recording's clock."""


@dataclass(frozen=True)
class Period:
    """A step or phase: the events with rows in ``[first, last)`` happened in it."""

    name: str
    value: int
    first: int
    last: int
    start_ns: int = UNKNOWN
    end_ns: int = UNKNOWN
    step: int = NO_STEP
    """For a phase, the row in `Periods.steps` of the step that it is part of."""


@dataclass(frozen=True)
class Window:
    """Events with rows in ``[first, last)``, and the steps that they are of."""

    first: int
    last: int
    start_ns: int = UNKNOWN
    steps: tuple[Period, ...] = ()

    @classmethod
    def of_steps(cls, steps: tuple[Period, ...]) -> Self:
        """From the beginning of the first of some steps to the end of the last."""
        return cls(steps[0].first, steps[-1].last, steps[0].start_ns, steps)


@dataclass(frozen=True)
class Periods:
    """Steps and phases in the order in which they began, and for each event the innermost one of either kind."""

    steps: tuple[Period, ...]
    phases: tuple[Period, ...]
    phase_of_event: Integers
    """Row in `phases`, `NO_PHASE` outside; one place more than there are events, for index -1."""

    def phase_code(self, events: Integers) -> Integers:
        """The code (`PHASE_CODE`) of the phase in which events happened; `NO_PHASE` for events outside the
        recording."""
        known: dict[str, int] = {str(phase): code for phase, code in PHASE_CODE.items()}
        codes = np.array([known.get(phase.name, NO_PHASE) for phase in self.phases] + [NO_PHASE], dtype=np.int64)
        return codes[self.phase_rows(events)]

    def phase_rows(self, events: Integers) -> Integers:
        """The rows in `phases` in which events happened, `NO_PHASE` for none or for events outside the recording."""
        inside = (events >= 0) & (events < len(self.phase_of_event) - 1)
        return self.phase_of_event[np.where(inside, events, -1)]

    def named(self, name: str, steps: Sequence[Period]) -> tuple[Period, ...]:
        """The phases called ``name`` in some of the `steps`; in the whole recording where it has no steps at all."""
        rows = {step: row for row, step in enumerate(self.steps)}
        wanted = {rows[step] for step in steps} if self.steps else {NO_STEP}
        return tuple(phase for phase in self.phases if phase.name == name and phase.step in wanted)


def find_periods(recording: Recording) -> Periods:
    """The steps and phases of a recording."""
    steps, step_scopes = _periods(recording, ScopeKind.STEP, {})
    phases, _ = _periods(recording, ScopeKind.PHASE, {scope: row for row, scope in enumerate(step_scopes)})
    phase_of_event = np.full(len(recording.events) + 1, NO_PHASE, dtype=np.int64)
    for row, phase in enumerate(phases):  # in order of beginning, so an inner phase overwrites its outer one
        phase_of_event[phase.first : phase.last] = row
    return Periods(steps, phases, phase_of_event)


def _periods(
    recording: Recording, kind: ScopeKind, steps: Mapping[int, int]
) -> tuple[tuple[Period, ...], Sequence[int]]:
    """Periods of one kind in the order in which they began, and their scopes."""
    scopes, times = recording.scopes, recording.events.time_ns
    rows = np.flatnonzero(scopes.kind == kind)
    rows = rows[np.argsort(scopes.start_ns[rows], kind="stable")]
    first = np.searchsorted(times, scopes.start_ns[rows], side="left").tolist()
    last = np.searchsorted(times, scopes.end_ns[rows], side="right").tolist()
    names = [recording.strings[name] for name in scopes.name[rows].tolist()]
    around = [_enclosing(recording, scope, steps) for scope in rows.tolist()]
    times_ns = scopes.start_ns[rows].tolist(), scopes.end_ns[rows].tolist()
    columns = zip(names, scopes.value[rows].tolist(), first, last, *times_ns, around, strict=True)
    return tuple(Period(*values) for values in columns), rows.tolist()


def _enclosing(recording: Recording, scope: int, steps: Mapping[int, int]) -> int:
    """The step, by its row, around a scope."""
    while scope != NO_SCOPE and scope not in steps:
        scope = int(recording.scopes.parent[scope])
    return steps.get(scope, NO_STEP)
