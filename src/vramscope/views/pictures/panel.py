"""One pass as the timeline draws it: thinned out, and laid along an axis.

Steps repeat the same work, so each is as wide as the others whatever held it up; within a step, the axis is time.
"""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
from vramscope.ledger.summary import steady_window
from vramscope.recording.recording import Integers
from vramscope.views.sampling import Positions, rows_to_draw

_COLUMNS = 1500
"""Into how many columns a panel is cut: more than it has pixels."""
_MOST_SPANS = 400
"""More phases than this could not be told apart."""


@dataclass(frozen=True)
class Span:
    """A named part of the axis, and how long it lasted."""

    name: str
    begin: float
    end: float
    length_ns: int


@dataclass(frozen=True)
class Panel:
    """Positions [n] on an axis from 0 to ``width``, and bytes [n, categories] from each of them on.

    ``reserved`` [n] is what the allocator held then, None for one that reserves nothing. Without ``steps`` the axis is
    plain time.
    """

    name: str
    positions: Positions
    composition: Integers
    reserved: Integers | None
    steps: tuple[Span, ...]
    phases: tuple[Span, ...]
    peak_position: float
    peak_bytes: int
    width: float
    length_ns: int

    @property
    def highest_bytes(self) -> int:
        """The highest that is drawn."""
        return max(self.peak_bytes, 0 if self.reserved is None else int(self.reserved.max()))


@dataclass(frozen=True)
class _Axis:
    """Times of events, and where they stand; between two knots the axis is linear in time."""

    times_ns: Integers
    window: Window
    knots: Positions
    places: Positions

    def place(self, event: int) -> float:
        """Where an event stands, or the window's nearest one."""
        return float(np.interp(self.time(event), self.knots, self.places))

    def time(self, event: int) -> int:
        """When it happened; 0 where there is no event at all."""
        nearest = min(max(event, self.window.first), self.window.last - 1)
        return int(self.times_ns[nearest]) if 0 <= nearest < len(self.times_ns) else 0

    def span(self, name: str, first: int, last: int) -> Span:
        """The part from one event to another."""
        return Span(name, self.place(first), self.place(last), self.time(last) - self.time(first))


def panel_of(name: str, ledger: Ledger) -> Panel:
    """The steady steps of a ledger's main device."""
    window = steady_window(ledger)
    axis = _axis(ledger, window)
    rows = ledger.event_rows[0]
    begin, end = np.searchsorted(rows, (window.first, window.last))
    times, composition = (column[begin:end] for column in ledger.timeline())
    positions = np.interp(times, axis.knots, axis.places)
    before = ledger.composition_at(ledger.beginning(window))
    reserved = _reserved_within(ledger, int(begin), int(end))
    chosen = rows_to_draw(positions, composition.sum(axis=1), _COLUMNS)
    if reserved is not None:
        chosen = np.union1d(chosen, rows_to_draw(positions, reserved[1:], _COLUMNS))
    levels = np.concatenate([[list(before.values())], composition[chosen]])
    drawn = np.append(0, chosen + 1)  # of the rows that begin with what was there before
    width = float(axis.places[-1]) or 1.0
    top = ledger.peak(window)
    phases = [phase for phase in ledger.periods.phases if window.first <= phase.first < phase.last <= window.last]
    return Panel(
        name=name,
        positions=np.concatenate([[0.0], positions[chosen], [width]]),
        composition=levels[[*range(len(levels)), -1]],
        reserved=None if reserved is None else reserved[np.append(drawn, drawn[-1])],
        steps=tuple(axis.span(f"step {step.value}", step.first, step.last) for step in window.steps),
        phases=tuple(axis.span(phase.name, phase.first, phase.last) for phase in phases[:_MOST_SPANS]),
        peak_position=axis.place(top.event),
        peak_bytes=top.bytes,
        width=width,
        length_ns=axis.time(window.last) - axis.time(window.first),
    )


def _reserved_within(ledger: Ledger, begin: int, end: int) -> Integers | None:
    """What the main device's allocator had reserved before the first of these of its events and after each of them.

    Before a recording's very first event nobody tells: it is taken for what it was after it.
    """
    reserved = ledger.reserved_totals()
    if reserved is None:
        return None
    return np.append(reserved[max(begin - 1, 0)], reserved[begin:end])


def _axis(ledger: Ledger, window: Window) -> _Axis:
    times = ledger.recording.events.time_ns
    plain = _Axis(times, window, np.zeros(2), np.zeros(2))
    begins = [plain.time(step.first) for step in window.steps]
    end = plain.time(window.last)
    if not begins:
        begin = plain.time(window.first)
        return _Axis(times, window, np.array([begin, end], dtype=float), np.array([0.0, end - begin]))
    knots = np.array([*begins, end], dtype=np.float64)
    return _Axis(times, window, knots, np.arange(len(knots), dtype=np.float64))
