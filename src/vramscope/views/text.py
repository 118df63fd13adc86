"""Categories, shares and sizes as text."""

from dataclasses import dataclass

from vramscope.ledger.categories import Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.summary import PassSummary
from vramscope.recording.collection import RUN
from vramscope.units import format_size

STEADY = "steady steps"
"""What figures are of where there is more than a cold step."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def category_label(category: Category) -> str:
    """A category's name for people."""
    return category.value.replace("_", " ")


def counted(count: int, what: str) -> str:
    """How many of something whose plural ends in s."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def extent_words(comparison: Comparison, summary: PassSummary) -> str:
    """What a pass's figures are of."""
    if summary.steady_steps:
        return STEADY
    return "cold step" if comparison.workload.get("tool") == RUN else "whole recording"


def window_words(comparison: Comparison) -> str:
    """Which steps of a script's run are shown, and by which number ``--window`` calls them; empty for all else."""
    window = comparison.window
    if window is None:
        return ""
    first, last = window.first_step, window.last_step
    return f"{f'step {first}' if first == last else f'steps {first} to {last}'} (window {window.number})"


def share_text(part: int, whole: int, places: int = 1) -> str:
    """A share in percent: nothing for nothing, and never 0 % for something."""
    if not part or not whole:
        return ""
    least = 10.0 ** -(places + 2)
    return f"<{least:.{places}%}" if 0 < part / whole < least / 2 else f"{part / whole:.{places}%}"


def short_number(value: float) -> str:
    """Three digits, or all before the point where these are more; never a power of ten for a large one."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


@dataclass(frozen=True)
class Scale:
    """One binary unit for figures that are read together; ``power`` of 1024."""

    power: int

    @classmethod
    def fitting(cls, largest_bytes: int) -> "Scale":
        """The largest unit of which the largest figure has at least ten, so that one decimal says enough."""
        power = 0
        while power + 1 < len(_UNITS) and largest_bytes >= 10 * 1024 ** (power + 1):
            power += 1
        return cls(power)

    def for_row(self, *sizes_bytes: int) -> "Scale":
        """A scale for sizes that stand side by side, so that one can be taken from the other."""
        if all(abs(size) >= self.unit_bytes for size in sizes_bytes if size):
            return self
        return min(self, Scale.fitting(max(map(abs, sizes_bytes))), key=lambda scale: scale.power)

    @property
    def unit(self) -> str:
        """The unit's name."""
        return _UNITS[self.power]

    @property
    def unit_bytes(self) -> int:
        """The unit's size."""
        return int(1024**self.power)

    def value(self, size_bytes: int) -> float:
        """A size as a number of units."""
        return size_bytes / self.unit_bytes

    def text(self, size_bytes: int) -> str:
        """A size in this unit; one that would round to nothing has a smaller unit of its own, below 1 KiB bytes."""
        if self.power == 0 or abs(size_bytes) < 1024:
            return f"{size_bytes:,} B"
        value = self.value(size_bytes)
        return format_size(size_bytes) if abs(value) < 0.05 else f"{value:,.1f} {self.unit}"

    def change(self, size_bytes: int) -> str:
        """A difference, with its sign."""
        return f"{'+' if size_bytes > 0 else ''}{self.text(size_bytes)}"
