"""Boundaries: where steps, phases and modules begin and end, at which several runs of one pass can be joined."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vramscope.recording.recording import NO_SCOPE, Integers, Recording, ScopeKind

_BOUNDED = {ScopeKind.STEP: "step", ScopeKind.PHASE: "phase", ScopeKind.MODULE: "module"}


class _Interval(NamedTuple):
    """A step, phase or module: its row among the scopes, its parent's row, and what is needed to order and name it."""

    row: int
    parent: int
    kind: ScopeKind
    name: str
    start_ns: int
    end_ns: int

    def boundary(self, sign: str) -> tuple[str, int]:
        """Label and time of its beginning (``+``) or end (``-``)."""
        return f"{_BOUNDED[self.kind]}{sign} {self.name}", self.start_ns if sign == "+" else self.end_ns

    def holds(self, later: "_Interval") -> bool:
        """Whether an interval that begins no earlier lies inside this one.

        At equal times only an interval without length can still be inside: one that is known to be below this one, or
        one of a finer kind.
        """
        if later.start_ns != self.end_ns:
            return later.start_ns < self.end_ns
        return later.end_ns == self.end_ns and (later.parent == self.row or later.kind > self.kind)


def boundaries(recording: Recording) -> tuple[tuple[str, ...], Integers]:
    """Where the steps, phases and modules of a recording begin and end, in the order in which they were passed.

    Returns:
        [n] labels such as ``step+ 0``, ``module+ fc1`` and ``phase- forward``, and [n] times in ns, never falling.
    """
    passed: list[tuple[str, int]] = []
    enclosing: list[_Interval] = []
    for interval in _intervals(recording):
        while enclosing and not enclosing[-1].holds(interval):
            passed.append(enclosing.pop().boundary("-"))
        passed.append(interval.boundary("+"))
        enclosing.append(interval)
    passed.extend(interval.boundary("-") for interval in reversed(enclosing))
    passed.sort(key=lambda boundary: boundary[1])  # stable: only intervals that cross, on other threads, change places
    return tuple(label for label, _ in passed), np.array([time_ns for _, time_ns in passed], dtype=np.int64)


def _intervals(recording: Recording) -> Iterator[_Interval]:
    """Steps, phases and modules by their beginnings, outer ones before what they hold."""
    scopes = recording.scopes
    rows = np.flatnonzero(np.isin(scopes.kind, tuple(_BOUNDED)))
    # rows are in the order of their beginnings, kinds go from coarse to fine: both tell outer from inner at equal times
    rows = rows[np.lexsort((rows, scopes.kind[rows], scopes.start_ns[rows]))]
    for row in rows.tolist():
        kind = ScopeKind(int(scopes.kind[row]))
        name = str(scopes.value[row]) if kind == ScopeKind.STEP else recording.strings[scopes.name[row]]
        parent = _bounded_ancestor(recording, row)
        yield _Interval(row, parent, kind, name, int(scopes.start_ns[row]), int(scopes.end_ns[row]))


def _bounded_ancestor(recording: Recording, row: int) -> int:
    """The nearest step, phase or module above a scope."""
    scopes = recording.scopes
    above = int(scopes.parent[row])
    while above != NO_SCOPE and int(scopes.kind[above]) not in _BOUNDED:
        above = int(scopes.parent[above])
    return above


def align(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Integers, Integers]:
    """The places, in two sequences of labels, of the boundaries that both runs passed.

    Equal sequences match place by place. Otherwise a boundary is known by its label, its step and how often the label
    came before in that step; of those that both have, the longest part that comes in the same order is kept.

    Returns:
        [m] rising places in ``ours`` and [m] rising places in ``theirs``.
    """
    if tuple(ours) == tuple(theirs):
        places = np.arange(len(ours), dtype=np.int64)
        return places, places
    where = {key: place for place, key in enumerate(_identities(theirs))}
    common = [(place, where[key]) for place, key in enumerate(_identities(ours)) if key in where]
    kept = _longest_rising([other for _, other in common])
    pairs = np.array([common[index] for index in kept], dtype=np.int64).reshape(len(kept), 2)
    return pairs[:, 0], pairs[:, 1]


def _identities(labels: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """(step, label, how often it came before in the step) of every boundary."""
    seen: Counter[tuple[str, str]] = Counter()
    step = ""
    for label in labels:
        if label.startswith("step+"):
            step = label
        yield step, label, seen[step, label]
        seen[step, label] += 1


def _longest_rising(values: Sequence[int]) -> list[int]:
    """The places of a longest rising subsequence of distinct values (patience sorting, n log n)."""
    ends: list[int] = []  # the smallest value that ends a rising subsequence of each length
    places: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        length = bisect_left(ends, value)
        before.append(places[length - 1] if length else -1)
        ends[length : length + 1] = [value]
        places[length : length + 1] = [place]
    chain = []
    place = places[-1] if places else -1
    while place >= 0:
        chain.append(place)
        place = before[place]
    return chain[::-1]
