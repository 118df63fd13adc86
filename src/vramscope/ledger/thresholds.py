"""How much a figure may grow: ``[NAME:]VALUE``, as ``--fail-over`` takes it."""

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from vramscope.errors import UsageError
from vramscope.ledger.categories import Category
from vramscope.units import format_size, parse_size

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_MODULE = "module="


class Figure(StrEnum):
    """What a threshold watches."""

    PEAK = "peak"
    CATEGORY = "category_peak"
    MODULE = "module_tree"


@dataclass(frozen=True)
class Threshold:
    """A figure and what it may grow by: a share of what it was, or a number of bytes."""

    text: str
    figure: Figure
    name: str
    percent: Decimal | None
    size_bytes: int

    def allowed_bytes(self, before_bytes: int) -> int:
        """The most that is still no regression; from 0 every growth beyond a size is one."""
        if self.percent is not None:
            return before_bytes + int(before_bytes * self.percent / 100)
        return before_bytes + self.size_bytes

    @property
    def growth(self) -> str:
        """The permitted growth in words."""
        return f"{self.percent}%" if self.percent is not None else format_size(self.size_bytes)


def parse_threshold(text: str, option: str = "--fail-over") -> Threshold:
    """A threshold such as ``5%``, ``peak:5%``, ``activations:20MiB`` or ``module=blocks.0:0``.

    Args:
        text: the threshold.
        option: which gave it, for messages.

    Raises:
        UsageError: the name is no figure, or the value neither a percentage nor a size.
    """
    name, _, value = text.rpartition(":")
    where = f"{option} {text!r}"
    figure, name = _figure(name, where)
    match = _PERCENT.fullmatch(value)
    if match is not None:
        return Threshold(text, figure, name, Decimal(match[1]), 0)
    try:
        return Threshold(text, figure, name, None, 0 if value.strip() == "0" else parse_size(value))
    except UsageError as error:
        raise UsageError(f"{where}: {value!r} is neither a percentage such as 5% nor a size such as 20MiB") from error


def _figure(name: str, where: str) -> tuple[Figure, str]:
    if name in ("", Figure.PEAK):
        return Figure.PEAK, str(Figure.PEAK)
    if name.startswith(_MODULE):
        return Figure.MODULE, name.removeprefix(_MODULE)
    if name in tuple(Category):
        return Figure.CATEGORY, name
    known = ["peak", *Category]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose module=PATH or one of {', '.join(known)}"
    raise UsageError(f"{where}: there is no figure {name!r}: {hint}")
