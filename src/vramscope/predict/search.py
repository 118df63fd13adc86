"""The largest size that fits, found by predicting sizes: the answer rests on predictions, never on a line."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vramscope.errors import VramscopeError
from vramscope.workloads.processes import ProcessDiedError

MOST = 1 << 20
_LOOK_AHEAD = 4
"""Sizes that are tried above the answer where what must be allocated would still fit."""
_ROUNDS = 3
_FARTHEST = 16
"""How many times the largest size that fits is tried at most: segments come in steps, and the first ones lie flat."""


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
        refused: why the next size cannot be run at all, where that is what ends the search.
        most: whether the search stopped at its own bound.
    """

    size: int
    needs: Mapping[int, Need]
    refused: str = ""
    most: bool = False


def _one_after_another(function: Callable[[int], bool], sizes: Sequence[int]) -> list[bool]:
    return [function(size) for size in sizes]


@dataclass
class Search:
    """A search for one limit; every size is predicted at most once.

    Args:
        predict: what a size needs; an error above the first size means that there is none so large.
        limit_bytes: what the process may take.
        most: the largest size to look at.
        each_of: asks of several sizes whether they fit, maybe at once.
    """

    predict: Predict
    limit_bytes: int
    most: int = MOST
    each_of: EachOf = _one_after_another
    needs: dict[int, Need] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def find(self, start: int = 1) -> Found:
        """The largest size that fits while the next one does not.

        Reserved memory can fall as the size grows, since segments come in steps. So where the blocks alone would fit
        above the answer, some sizes there are tried too, and the search goes on from the largest that fits.

        Args:
            start: where to begin looking.

        Raises:
            VramscopeError: not even the first size can be run.
        """
        low = self._narrow(0, None, min(max(start, 1), self.most))
        for _ in range(_ROUNDS):
            tried = self._worth_trying(low)
            above = [size for size, fits in zip(tried, self.each_of(self.fits, tried), strict=True) if fits]
            if not above:
                break
            beyond = [size for size in self._misfits() if size > above[-1]]
            low = self._narrow(above[-1], min(beyond, default=None), above[-1] + 1)
        return Found(low, dict(sorted(self.needs.items())), self.refused.get(low + 1, ""), low >= self.most)

    def fits(self, size: int) -> bool:
        """Whether a size fits; it is predicted now if it was not before."""
        if size not in self.needs and size not in self.refused:
            try:
                self.needs[size] = self.predict(size)
            except ProcessDiedError:
                raise
            except VramscopeError as error:
                if size == 1:
                    raise
                self.refused[size] = str(error)
        return size in self.needs and self.needs[size].process_bytes <= self.limit_bytes

    def _misfits(self) -> list[int]:
        too_much = [size for size, need in self.needs.items() if need.process_bytes > self.limit_bytes]
        return [*too_much, *self.refused]

    def _narrow(self, low: int, high: int | None, probe: int) -> int:
        """From a size that fits (0 does) and one that does not, if known, to neighbours."""
        turn = 0
        while low < self.most and (high is None or high - low > 1):
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
            return max((low + high) // 2, 1)
        found = self._below(high) if low == 0 and high is not None else self._on_the_line(low, high)
        return max(min(found, bound), low + 1)

    def _below(self, high: int) -> int:
        """Below what does not fit while nothing that does is known: on the line of two misfits, or in proportion."""
        need = self.needs[high].process_bytes
        further = min((size for size in self.needs if size > high), default=None)
        return high * self.limit_bytes // need if further is None else self._meets_limit(high, further)

    def _on_the_line(self, low: int, high: int | None) -> int:
        # the widest base there is: near each other two sizes may lie on one step
        other = high if high in self.needs else min(self.needs)
        return low + 1 if other == low else self._meets_limit(low, other)

    def _meets_limit(self, size: int, other: int) -> int:
        """The last size below the limit on the line through two predictions, which rises by a byte a size at least."""
        need = self.needs[size].process_bytes
        slope = max((self.needs[other].process_bytes - need) / (other - size), 1.0)
        return size + math.floor((self.limit_bytes - need) / slope)

    def _worth_trying(self, low: int) -> list[int]:
        """Sizes above the first misfit at which the blocks alone still fit, by the line of what is allocated."""
        if low == 0 or low + 1 not in self.needs:
            return []
        here, above = self.needs[low].least_bytes, self.needs[low + 1].least_bytes
        room = (self.limit_bytes - above) // max(above - here, 1)
        last = min(low + 1 + max(room, 0), self.most)
        steps = min(_LOOK_AHEAD, last - low - 1)
        return sorted({low + 1 + (last - low - 1) * step // steps for step in range(1, steps + 1)})
