"""Straight lines through measurements, and the spread over seeds.

Sums are exact before they are rounded (``math.fsum``), so that no digit depends on where an array lies in memory.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""By the number of values: what Student's t stays below in 95 % of samples, either way, with one degree of freedom
fewer than values (NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2)."""
_STRAIGHT = 0.999
"""A fit that explains more than this share of the variance counts as a straight line."""


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope * x``, and the share of y's variance that it explains."""

    slope: float
    intercept: float
    r_squared: float

    @property
    def is_straight(self) -> bool:
        """Whether so much of the variance is explained that y counts as growing in a straight line."""
        return self.r_squared > _STRAIGHT


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line; a perfectly flat ``y`` is explained entirely.

    Raises:
        ValueError: fewer than three points, through which any line would do.
    """
    if len(x) < 3:
        raise ValueError(f"a fit needs at least three points, not {len(x)}")
    middle, height = statistics.fmean(x), statistics.fmean(y)
    across = math.fsum((a - middle) * (b - height) for a, b in zip(x, y, strict=True))
    slope = across / math.fsum((a - middle) ** 2 for a in x)
    residual = math.fsum((b - height - slope * (a - middle)) ** 2 for a, b in zip(x, y, strict=True))
    total = math.fsum((b - height) ** 2 for b in y)
    return Line(slope, height - slope * middle, 1.0 - residual / total if total else 1.0)


@dataclass(frozen=True)
class Spread:
    """One figure over seeds.

    Attributes:
        mean: of the sample.
        deviation: the sample's standard deviation.
        lowest: the smallest value.
        highest: the largest value.
        half_width: the mean of all seeds lies within this of the sample's mean, with 95 % confidence (Student's t).
    """

    mean: float
    deviation: float
    lowest: float
    highest: float
    half_width: float

    def may_be(self, value: float) -> bool:
        """Whether a value lies in the mean's 95 % interval: chance alone may explain the distance."""
        return abs(self.mean - value) <= self.half_width

    @property
    def is_positive(self) -> bool:
        """Whether the mean's 95 % interval lies above 0."""
        return self.mean > self.half_width


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of two to ten values.

    Raises:
        ValueError: another number of values: one has no spread.
    """
    if len(values) not in _T_95:
        raise ValueError(f"a spread is taken over {min(_T_95)} to {max(_T_95)} values, not {len(values)}")
    deviation = statistics.stdev(values)
    half_width = _T_95[len(values)] * deviation / math.sqrt(len(values))
    return Spread(statistics.fmean(values), deviation, min(values), max(values), half_width)
