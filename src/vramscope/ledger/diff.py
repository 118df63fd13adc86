"""What changed between two runs, and which changes are regressions. A pure function of two comparisons."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from vramscope.errors import RecordingError, UsageError
from vramscope.ledger.categories import Category, Flags
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.operators import operator_rows
from vramscope.ledger.summary import PassSummary, steady_window
from vramscope.ledger.thresholds import Figure, Threshold

_SAME_RUN = ("name", "batch", "seq", "dtype", "amp", "device", "optimizer", "checkpoint", "parameter_count")
"""Facts of a workload that must agree for two runs to be alike."""

Names = tuple[str, str]
SIDES: Names = ("the first side", "the second side")
"""What errors call two sides of which nothing else is known."""


class Kind(StrEnum):
    """What a figure is of."""

    PEAK = "peak"
    PHASE = "phase"
    CATEGORY = "category"
    """At the pass's peak: these sum to it."""
    CATEGORY_PEAK = "category_peak"
    """At the category's own fullest moment."""
    ACTIVATIONS = "activations"
    MODULE = "module"
    """The most that the module's own blocks, its children's excluded, held together at any moment."""
    OPERATOR = "operator"
    """The most that the operator's blocks held together at any moment."""


class Course(StrEnum):
    """What became of a figure."""

    SAME = "same"
    GREW = "grew"
    SHRANK = "shrank"
    APPEARED = "appeared"
    WENT = "went"


@dataclass(frozen=True)
class Change:
    """A figure before and after; bytes."""

    kind: Kind
    name: str
    before_bytes: int
    after_bytes: int

    @property
    def growth_bytes(self) -> int:
        """After less before."""
        return self.after_bytes - self.before_bytes

    @property
    def course(self) -> Course:
        """What became of it; what was not there counts as 0."""
        if not self.growth_bytes:
            return Course.SAME
        if not self.before_bytes:
            return Course.APPEARED
        if not self.after_bytes:
            return Course.WENT
        return Course.GREW if self.growth_bytes > 0 else Course.SHRANK


@dataclass(frozen=True)
class Verdict:
    """One threshold on one pass; ``module`` is the module that grew most of what the threshold counts."""

    pass_name: str
    threshold: Threshold
    before_bytes: int
    after_bytes: int
    module: Change | None = None

    @property
    def is_regression(self) -> bool:
        """Whether the figure grew by more than it may; the limit itself is fine."""
        return self.after_bytes > self.threshold.allowed_bytes(self.before_bytes)


@dataclass(frozen=True)
class PassDiff:
    """One pass before and after: all figures, changed or not, in the order in which a reader wants them."""

    name: str
    changes: tuple[Change, ...]

    def of(self, kind: Kind) -> tuple[Change, ...]:
        """The figures of one kind."""
        return tuple(change for change in self.changes if change.kind == kind)

    def changed(self, kind: Kind) -> tuple[Change, ...]:
        """Those that changed, the largest change first."""
        found = [change for change in self.of(kind) if change.growth_bytes]
        return tuple(sorted(found, key=lambda change: (-abs(change.growth_bytes), change.name)))


@dataclass(frozen=True)
class Diff:
    """Two runs side by side. ``differences`` are facts in which they are not alike: (name, before, after)."""

    passes: tuple[PassDiff, ...]
    differences: tuple[tuple[str, str, str], ...]
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Verdict, ...]:
        """The thresholds that were passed."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_regression)


def require_same_passes(before: Comparison, after: Comparison, names: Names = SIDES) -> None:
    """Refuse two sides of different passes: training against inference would say nothing of a change.

    Raises:
        RecordingError: a pass is missing on one side, which is called by its name.
    """
    _pairs_of_same_name(list(before.passes), list(after.passes), names)


def diff_comparisons(
    before: Comparison, after: Comparison, thresholds: Sequence[Threshold] = (), names: Names = SIDES
) -> Diff:
    """What changed, pass by pass; two single recordings are compared whatever passes they are of.

    Args:
        before: one side.
        after: the other one.
        thresholds: what may have grown by how much.
        names: what errors call the sides.

    Raises:
        RecordingError: a pass is missing on one side, or a threshold is asked of figures that cannot be trusted.
        UsageError: a threshold names a module that neither side has.
    """
    pairs = _pairs(list(before.passes), list(after.passes), names)
    warnings = (*_doubts(before, "before"), *_doubts(after, "after"))
    if thresholds and warnings:
        raise RecordingError(f"cannot judge by --fail-over: {warnings[0]}")
    crossed = tuple(("pass", old, new) for old, new in pairs.values() if old != new)
    changes = {name: _changes(before, after, old, new) for name, (old, new) in pairs.items()}
    verdicts = []
    for threshold in thresholds:
        for name, (old, new) in pairs.items():
            verdicts.append(_judge(threshold, name, before.ledgers[old], after.ledgers[new]))
    return Diff(
        passes=tuple(PassDiff(name, found) for name, found in changes.items()),
        differences=(*crossed, *_differences(before.workload, after.workload)),
        verdicts=tuple(verdicts),
        warnings=warnings,
    )


def _pairs(before: Sequence[str], after: Sequence[str], names: Names) -> dict[str, tuple[str, str]]:
    """The passes to compare, by the name to show."""
    if len(before) == len(after) == 1:
        name = before[0] if before == after else f"{before[0]} to {after[0]}"
        return {name: (before[0], after[0])}
    return _pairs_of_same_name(before, after, names)


def _pairs_of_same_name(before: Sequence[str], after: Sequence[str], names: Names) -> dict[str, tuple[str, str]]:
    missing = [(name, names[1]) for name in before if name not in after]
    missing += [(name, names[0]) for name in after if name not in before]
    if missing:
        name, side = missing[0]
        both = [name for name in before if name in after]
        hint = f": compare one pass with --pass {both[0]}" if both else ""
        raise RecordingError(f"{side} has no {name} pass{hint}")
    return {name: (name, name) for name in before}


def _doubts(side: Comparison, which: str) -> list[str]:
    """Why the figures of a side cannot be trusted."""
    found = []
    for name, summary in side.passes.items():
        if not summary.complete:
            found.append(f"the {name} recording {which} is incomplete: record it again")
        if summary.allocator.max_disagreement_bytes:
            found.append(f"the {name} recording {which} lacks events: record it again")
    return found


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    pairs = [(key, before.get(key), after.get(key)) for key in _SAME_RUN]
    return tuple((key, _said(old), _said(new)) for key, old, new in pairs if old != new)


def _said(fact: Any) -> str:
    """A fact of a workload in words."""
    return {None: "none", True: "yes", False: "no"}[fact] if fact is None or isinstance(fact, bool) else str(fact)


def _changes(before: Comparison, after: Comparison, old: str, new: str) -> tuple[Change, ...]:
    left = _figures(before.ledgers[old], before.passes[old])
    right = _figures(after.ledgers[new], after.passes[new])
    keys = dict.fromkeys([*left, *right])
    return tuple(Change(kind, name, left.get((kind, name), 0), right.get((kind, name), 0)) for kind, name in keys)


def _figures(ledger: Ledger, summary: PassSummary) -> dict[tuple[Kind, str], int]:
    """Every figure of a pass by kind and name."""
    window = steady_window(ledger)
    found = {(Kind.PEAK, "peak"): summary.peak.bytes}
    found |= {(Kind.PHASE, name): level.peak_bytes for name, level in summary.phases.items()}
    found |= {(Kind.CATEGORY, str(category)): size for category, size in summary.peak.by_category.items()}
    peaks = {category: ledger.category_peak(category, window).bytes for category in Category}
    found |= {(Kind.CATEGORY_PEAK, str(category)): size for category, size in peaks.items()}
    found[Kind.ACTIVATIONS, "retained"] = summary.activations.retained_bytes
    found[Kind.ACTIVATIONS, "transient"] = summary.activations.transient_peak_bytes
    found |= {(Kind.MODULE, path): size for path, size in module_peaks(ledger).items()}
    found |= {(Kind.OPERATOR, row.name): row.peak_bytes for row in operator_rows(ledger)}
    return found


def module_peaks(ledger: Ledger) -> dict[str, int]:
    """The most that each module's own blocks held together at any moment of the steady steps; modules without any are
    left out."""
    window = steady_window(ledger)
    every = np.ones(len(ledger.blocks), dtype=np.bool_)
    peaks = ledger.peaks_by_module(every, window)
    return {ledger.module_paths[number]: int(peaks[number]) for number in np.flatnonzero(peaks).tolist()}


def _judge(threshold: Threshold, name: str, before: Ledger, after: Ledger) -> Verdict:
    if threshold.figure is Figure.MODULE:
        _require_module(threshold, before, after)
    old, new = _at_the_fullest(threshold, before), _at_the_fullest(threshold, after)
    growth = [Change(Kind.MODULE, path, old.get(path, 0), new.get(path, 0)) for path in dict.fromkeys([*old, *new])]
    culprit = max(growth, key=lambda change: (change.growth_bytes, change.name), default=None)
    return Verdict(name, threshold, sum(old.values()), sum(new.values()), culprit)


def _at_the_fullest(threshold: Threshold, ledger: Ledger) -> dict[str, int]:
    """A threshold's figure at its own fullest moment of the steady steps, by module."""
    chosen = _watched(threshold, ledger) & (ledger.blocks.device == 0)
    window = steady_window(ledger)
    if threshold.figure is Figure.PEAK:
        moment = ledger.peak(window)
    else:
        moment = ledger.peak_of(chosen, window)
    return ledger.sum_by_module(chosen & ledger.alive_at(moment))


def _watched(threshold: Threshold, ledger: Ledger) -> Flags:
    """Which blocks a threshold counts."""
    if threshold.figure is Figure.CATEGORY:
        return ledger.is_category(Category(threshold.name))
    path = threshold.name if threshold.figure is Figure.MODULE else ""
    inside = np.array([_is_within(other, path) for other in ledger.module_paths], dtype=np.bool_)
    return inside[ledger.module]


def _is_within(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}.")


def _require_module(threshold: Threshold, before: Ledger, after: Ledger) -> None:
    """Refuse a path that neither side has: a gate on a misspelt name would always be open."""
    known = {path for ledger in (before, after) for path in _module_names(ledger)}
    if any(_is_within(path, threshold.name) for path in known):
        return
    near = difflib.get_close_matches(threshold.name, sorted(known), 1)
    hint = f": did you mean {near[0]}?" if near else ": check the path"
    raise UsageError(f"--fail-over {threshold.text}: neither side has a module {threshold.name!r}{hint}")


def _module_names(ledger: Ledger) -> set[str]:
    used = {ledger.module_paths[number] for number in np.unique(ledger.module).tolist()}
    return used | {str(path) for path, _ in ledger.recording.workload.get("modules", [])}
