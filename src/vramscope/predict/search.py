"""The largest size that fits, found by predicting sizes: the answer rests on predictions, never on a line."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vramscope.errors import UsageError, VramscopeError
from vramscope.workloads.processes import ProcessDiedError

MOST = 1 << 20
_LOOK_AHEAD = 4
"""Sizes that are tried above the answer where what must be allocated would still fit."""
_ROUNDS = 3
_FARTHEST = 16
"""How many times the largest size that fits is tried at most: segments come in steps, and the first ones lie flat."""
_UNITS = (2, 3, 4, 8)
"""What sizes may be bound to: batch norm takes no single sample, pairs come in twos, groups of a batch in fours."""


@dataclass(frozen=True)
class Need:
    """What a size takes; bytes.

    Attributes:
        allocated_bytes: the allocator's highest total of blocks.
        reserved_bytes: what it took from the device for them.
        process_bytes: with everything outside the allocator, at most.
        remarks: what the prediction assumes and leaves out, and how far off such predictions were.
    """

    allocated_bytes: int
    reserved_bytes: int
    process_bytes: int
    remarks: tuple[str, ...] = ()

    @property
    def least_bytes(self) -> int:
        """What the process would take if nothing that is reserved were unused."""
        return self.process_bytes - self.reserved_bytes + self.allocated_bytes


Predict = Callable[[int], Need]
EachOf = Callable[[Callable[[int], bool], Sequence[int]], Sequence[bool]]


@dataclass(frozen=True)
class Found:
    """The largest size that fits, 0 if none does.

    Attributes:
        size: it.
        needs: every size that was predicted.
        refused: why one more cannot be run at all; empty where it can.
        unit: sizes between its multiples cannot be run, but for those that were predicted.
    """

    size: int
    needs: Mapping[int, Need]
    refused: str = ""
    unit: int = 1

    @property
    def next_size(self) -> int | None:
        """The next size that was predicted; None where none can be run, or the search stopped at its own bound."""
        return min((size for size in self.needs if size > self.size), default=None)


def _one_after_another(function: Callable[[int], bool], sizes: Sequence[int]) -> list[bool]:
    return [function(size) for size in sizes]


@dataclass
class Search:
    """A search for one limit; every size is predicted at most once.

    Args:
        predict: what a size needs; an error means that it cannot be run.
        limit_bytes: what the process may take.
        most: the largest size to look at.
        each_of: asks of several sizes whether they fit, maybe at once.
        unit: sizes are its multiples until the last step.
    """

    predict: Predict
    limit_bytes: int
    most: int = MOST
    each_of: EachOf = _one_after_another
    unit: int = 1
    needs: dict[int, Need] = field(default_factory=dict)
    refused: dict[int, VramscopeError] = field(default_factory=dict)

    def find(self, start: int = 1) -> Found:
        """The largest size that fits while the next one does not.

        Reserved memory can fall as the size grows, since segments come in steps. So where the blocks alone would fit
        above the answer, some sizes there are tried too, and the search goes on from the largest that fits. Where the
        next size cannot be run, multiples of a few numbers are tried, should the model take nothing else.

        Args:
            start: where to begin looking.

        Raises:
            VramscopeError: none of the first sizes can be run.
        """
        low = self._largest(start)
        while self._takes_multiples(low):
            low = self._largest(start)
        between = range(low + 1, min(low + self.unit, self.most + 1))
        low = max(
            (size for size, fits in zip(between, self.each_of(self.fits, between), strict=True) if fits), default=low
        )
        if not self.needs:
            raise self.refused[1]
        refused = self.refused.get(low + 1, "")
        return Found(low, dict(sorted(self.needs.items())), str(refused), self.unit)

    def fits(self, size: int) -> bool:
        """Whether a size fits; it is predicted now if it was not before."""
        if size not in self.needs and size not in self.refused:
            try:
                self.needs[size] = self.predict(size)
            except ProcessDiedError:
                raise
            except VramscopeError as error:
                if size == 1 and isinstance(error, UsageError):
                    raise
                self.refused[size] = error
        return size in self.needs and self.needs[size].process_bytes <= self.limit_bytes

    def _largest(self, start: int) -> int:
        """The largest multiple of the unit that fits."""
        low = self._narrow(0, None, min(start, self.most))
        for _ in range(_ROUNDS):
            tried = self._worth_trying(low)
            above = [size for size, fits in zip(tried, self.each_of(self.fits, tried), strict=True) if fits]
            if not above:
                break
            beyond = [size for size in self._misfits() if size > above[-1]]
            low = self._narrow(above[-1], min(beyond, default=None), above[-1] + self.unit)
        return low

    def _takes_multiples(self, low: int) -> bool:
        """Whether a larger unit takes over: the next size cannot be run, the next multiple of that unit can."""
        if low + self.unit not in self.refused:
            return False
        for unit in _UNITS:
            size = (low // unit + 1) * unit
            if unit > self.unit and size <= self.most and (self.fits(size) or size in self.needs):
                self.unit = unit
                return True
        return False

    def _misfits(self) -> list[int]:
        too_much = [size for size, need in self.needs.items() if need.process_bytes > self.limit_bytes]
        return [size for size in (*too_much, *self.refused) if size % self.unit == 0]

    def _narrow(self, low: int, high: int | None, probe: int) -> int:
        """From a size that fits (0 does) and one that does not, if known, to neighbours."""
        turn = 0
        probe = max(self._multiple(probe), low + self.unit)
        while low + self.unit <= self.most and (high is None or high - low > self.unit):
            if self.fits(probe):
                low = probe
            else:
                high = probe
            turn += 1
            probe = self._next(low, high, halve=turn % 3 == 0)
        return low

    def _next(self, low: int, high: int | None, halve: bool) -> int:
        """Where the line through two predictions meets the limit; every third time the middle, should the line lie."""
        bound = min(_FARTHEST * low, self.most) if high is None else high - 1
        if high is not None and (halve or (low == 0 and high in self.refused)):
            return max(self._multiple((low + high) // 2), self.unit)
        found = self._below(high) if low == 0 and high is not None else self._on_the_line(low, high)
        return max(self._multiple(min(found, bound)), low + self.unit)

    def _multiple(self, size: int) -> int:
        """The last multiple of the unit up to a size."""
        return size // self.unit * self.unit

    def _below(self, high: int) -> int:
        """Below what does not fit while nothing that does is known: on the line of two misfits, or in proportion."""
        need = self.needs[high].process_bytes
        further = min((size for size in self.needs if size > high), default=None)
        return high * self.limit_bytes // need if further is None else self._meets_limit(high, further)

    def _on_the_line(self, low: int, high: int | None) -> int:
        # the widest base there is: near each other two sizes may lie on one step
        other = high if high in self.needs else min(self.needs)
        return low + self.unit if other == low else self._meets_limit(low, other)

    def _meets_limit(self, size: int, other: int) -> int:
        """The last size below the limit on the line through two predictions, which rises by a byte a size at least."""
        need = self.needs[size].process_bytes
        slope = max((self.needs[other].process_bytes - need) / (other - size), 1.0)
        return size + math.floor((self.limit_bytes - need) / slope)

    def _worth_trying(self, low: int) -> list[int]:
        """Sizes above the first misfit at which the blocks alone still fit, by the line of what is allocated."""
        next_size = low + self.unit
        if low == 0 or next_size not in self.needs:
            return []
        here, above = self.needs[low].least_bytes, self.needs[next_size].least_bytes
        room = (self.limit_bytes - above) // max(above - here, 1) * self.unit
        further = max(min(room, self._multiple(self.most) - next_size) // self.unit, 0)
        steps = min(_LOOK_AHEAD, further)
        return sorted({next_size + self.unit * (further * step // steps) for step in range(1, steps + 1)})
