"""Straight lines through measurements, and the spread over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope * x``, and the share of y's variance that it explains."""

    slope: float
    intercept: float
    r_squared: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line; a perfectly flat ``y`` is explained entirely.

    Raises:
        ValueError: fewer than three points, through which any line would do.
    """
    if len(x) < 3:
        raise ValueError(f"a fit needs at least three points, not {len(x)}")
    values = np.asarray(y, dtype=np.float64)
    slope, intercept = (float(number) for number in np.polyfit(np.asarray(x, dtype=np.float64), values, 1))
    residual = float(np.sum((values - intercept - slope * np.asarray(x)) ** 2))
    total = float(np.sum((values - values.mean()) ** 2))
    return Line(slope, intercept, 1.0 - residual / total if total else 1.0)


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and extremes of one figure over seeds."""

    mean: float
    deviation: float
    lowest: float
    highest: float


def spread_of(values: Sequence[float]) -> Spread:
    """The spread; the deviation of a single value is 0."""
    numbers = np.asarray(values, dtype=np.float64)
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    return Spread(float(numbers.mean()), deviation, float(numbers.min()), float(numbers.max()))
