"""A prediction beside what was measured: totals, categories, and the first allocation where they part."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import CATEGORIES, CODE, Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
from vramscope.ledger.summary import steady_window
from vramscope.recording.recording import UNKNOWN

_MAIN_DEVICE = 0
_SCRATCH = CODE[Category.WORKSPACE]
_MOST_COMPARED = 50_000
"""Allocations beyond which the shared subsequence, whose search can take quadratic time, is not looked for."""


@dataclass(frozen=True)
class Allocation:
    """One allocation: its row among the events, and who made it. ``bytes`` are those that were asked for."""

    event: int
    bytes: int
    category: Category
    operator: str | None
    module: str


@dataclass(frozen=True)
class Parting:
    """The first allocation, counted from 0, whose size differs; a side that has no more allocations is None."""

    index: int
    predicted: Allocation | None
    measured: Allocation | None


@dataclass(frozen=True)
class Figure:
    """A size on both sides; bytes."""

    predicted_bytes: int
    measured_bytes: int

    @property
    def difference_bytes(self) -> int:
        """Prediction less measurement: negative where it is too low."""
        return self.predicted_bytes - self.measured_bytes

    @property
    def error(self) -> float | None:
        """The difference over what was measured; None where nothing was."""
        return self.difference_bytes / self.measured_bytes if self.measured_bytes else None


@dataclass(frozen=True)
class Place:
    """Where in the step a moment is."""

    phase: str | None
    module: str
    operator: str | None


@dataclass(frozen=True)
class Against:
    """A pass predicted and measured.

    ``peak`` and ``by_category`` are at each side's own peak; ``categories_known`` tells whether the measurement says
    what its blocks are for. ``reserved`` is None where the measured allocator reserves nothing. ``allocations`` are
    the numbers of predicted and measured ones that were compared, ``matching`` the share of the longer sequence that
    is common to both in the same order, None for sequences too long to tell. ``peaks_at`` are the places of the
    predicted and the measured peak.
    """

    peak: Figure
    reserved: Figure | None
    by_category: Mapping[Category, Figure]
    categories_known: bool
    allocations: tuple[int, int]
    matching: float | None
    parting: Parting | None
    peaks_at: tuple[Place, Place]


def set_against(predicted: Ledger, measured: Ledger) -> Against:
    """Compare the steady steps of a prediction with those of a recording, or its last step with a snapshot.

    A snapshot has no steps: all of it is taken for one. Kernels' scratch is left out of the sequences where both sides
    know it for scratch, since rules for the CPU do not predict it.
    """
    theirs = steady_window(measured)
    ours = steady_window(predicted) if measured.steps else _last_step(predicted)
    known = bool(measured.steps)
    left, right = _allocations(predicted, ours, known), _allocations(measured, theirs, known)
    sizes = _sizes(predicted, left), _sizes(measured, right)
    our_peak = predicted.peak(ours)
    their_peak = measured.peak(theirs)
    our_parts, their_parts = predicted.composition_at(our_peak), measured.composition_at(their_peak)
    return Against(
        peak=Figure(our_peak.bytes, their_peak.bytes),
        reserved=_reserved(predicted, ours, measured, theirs),
        by_category={category: Figure(our_parts[category], their_parts[category]) for category in CATEGORIES},
        categories_known=known,
        allocations=(len(left), len(right)),
        matching=_matching(*sizes),
        parting=_parting(predicted, left, measured, right, sizes),
        peaks_at=(_place(predicted, our_peak.event), _place(measured, their_peak.event)),
    )


def _place(ledger: Ledger, event: int) -> Place:
    return Place(ledger.phase_at(event), ledger.module_at(event), ledger.operator_at(event))


def _last_step(ledger: Ledger) -> Window:
    return Window.of_steps(ledger.steps[-1:])


def _reserved(predicted: Ledger, ours: Window, measured: Ledger, theirs: Window) -> Figure | None:
    own, other = _most_reserved(predicted, ours), _most_reserved(measured, theirs)
    return None if own is None or other is None else Figure(own, other)


def _most_reserved(ledger: Ledger, window: Window) -> int | None:
    """The highest that the main device's allocator had reserved; None where it reserves nothing, or nobody told."""
    reserved = ledger.reserved_totals(_MAIN_DEVICE)
    begin, end = np.searchsorted(ledger.event_rows[_MAIN_DEVICE], (window.first, window.last))
    return None if reserved is None or begin == end else int(reserved[begin:end].max())


def _allocations(ledger: Ledger, window: Window, without_scratch: bool) -> list[int]:
    """Rows of the main device's allocations."""
    events = ledger.recording.events
    rows = np.arange(window.first, window.last)
    rows = rows[(events.size[rows] > 0) & (events.device[rows] == _MAIN_DEVICE)]
    if without_scratch:
        rows = rows[ledger.category[ledger.blocks.of_event[rows]] != _SCRATCH]
    found: list[int] = rows.tolist()
    return found


def _sizes(ledger: Ledger, rows: list[int]) -> list[int]:
    events = ledger.recording.events
    requested, size = events.requested[rows], events.size[rows]
    sizes: list[int] = np.where(requested == UNKNOWN, size, requested).tolist()
    return sizes


def _matching(left: list[int], right: list[int]) -> float | None:
    if left == right:
        return 1.0
    if max(len(left), len(right)) > _MOST_COMPARED:
        return None
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / max(len(left), len(right))


def _parting(
    predicted: Ledger, left: list[int], measured: Ledger, right: list[int], sizes: tuple[list[int], list[int]]
) -> Parting | None:
    if sizes[0] == sizes[1]:
        return None
    alike = [ours == theirs for ours, theirs in zip(*sizes, strict=False)]
    index = alike.index(False) if False in alike else len(alike)
    return Parting(index, _allocation(predicted, left, sizes[0], index), _allocation(measured, right, sizes[1], index))


def _allocation(ledger: Ledger, rows: list[int], sizes: list[int], index: int) -> Allocation | None:
    if index >= len(rows):
        return None
    event = rows[index]
    category = CATEGORIES[int(ledger.category[ledger.blocks.of_event[event]])]
    return Allocation(event, sizes[index], category, ledger.operator_at(event), ledger.module_at(event))
