"""Numbers in the forms in which several experiments hand them on."""

from collections.abc import Mapping
from typing import TypeVar

from vramscope.experiments.fits import Spread
from vramscope.findings import Series

Value = TypeVar("Value")


def keyed(by_number: Mapping[int, Value] | Mapping[float, Value]) -> dict[str, Value]:
    """With the keys that JSON has."""
    return {str(number): value for number, value in by_number.items()}


def series_of(label: str, spreads: list[Spread], x: tuple[float, ...] = ()) -> Series:
    """Means between the extremes over seeds."""
    low, high = tuple(spread.lowest for spread in spreads), tuple(spread.highest for spread in spreads)
    return Series(label, tuple(spread.mean for spread in spreads), x, low, high)
