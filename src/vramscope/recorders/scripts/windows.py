"""Which steps of a script are recorded: the planned ones, and more where memory turns out to grow."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

_WATCHED_STEPS = 20
_QUARTERS = 4
_REARMED_STEPS = 3
_MOST_REARMED = 3
_LEAST_GROWTH_BYTES = 32 * 1024
"""Over 20 steps; less is what loggers and Python's own caches take."""


@dataclass(frozen=True)
class WindowPlan:
    """Steps ``first`` up to but without ``last`` (None: all that follow) are recorded, by their index from 0."""

    first: int = 1
    last: int | None = 4
    rearm: bool = True

    def wants(self, index: int) -> bool:
        """Whether a step is recorded."""
        return index >= self.first and (self.last is None or index < self.last)

    def is_over(self, index: int) -> bool:
        """Whether neither a step nor a later one is planned."""
        return self.last is not None and index >= self.last


class GrowthWatch:
    """Decides from the live bytes at the ends of steps whether memory grows from step to step.

    It grows when, over 20 steps, the lowest value of each five is higher than that of the five before: one batch that
    is larger than others, or a cache that fills once, does not look so.
    """

    def __init__(self, enabled: bool) -> None:
        self._left = _MOST_REARMED if enabled else 0
        self._levels: deque[int] = deque(maxlen=_WATCHED_STEPS)
        self._until = 0

    def wants(self, index: int) -> bool:
        """Whether a step belongs to a window that growth has opened."""
        return index < self._until

    def put_off(self) -> None:
        """The window that has opened begins a step later."""
        self._until += 1

    @property
    def is_over(self) -> bool:
        """Whether no further window will open."""
        return self._left == 0

    def add(self, index: int, live_bytes: int) -> bool:
        """Take in the level at the end of unrecorded step ``index``; true if a window opens with the next step."""
        self._levels.append(live_bytes)
        if not self._left or not self._grows():
            return False
        self._left -= 1
        self._until = index + 1 + _REARMED_STEPS
        self._levels.clear()
        return True

    def _grows(self) -> bool:
        if len(self._levels) < _WATCHED_STEPS:
            return False
        levels, length = list(self._levels), _WATCHED_STEPS // _QUARTERS
        lows = [min(levels[start : start + length]) for start in range(0, _WATCHED_STEPS, length)]
        rises = all(later > earlier for earlier, later in pairwise(lows))
        return rises and lows[-1] - lows[0] >= _LEAST_GROWTH_BYTES
