"""The peaks side by side as stacked bars, every category with its size beside it."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from vramscope.ledger.categories import Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ledger import Composition
from vramscope.views.palette import STACK_ORDER
from vramscope.views.pictures.fills import fill_of
from vramscope.views.pictures.words import add_titles, clipped, drawable, extents
from vramscope.views.text import STEADY, Scale, category_label, share_text

_BAR = 0.28
"""Width of a bar, where passes are 1 apart."""
_GAP = 0.055
"""Least distance of two labels, as a share of the height."""
_VISIBLE = 0.003
"""A part smaller than this share of the height is told below its bar instead of beside it."""


def draw_peaks(comparison: Comparison, figure: Figure) -> None:
    """Draw a bar for every pass."""
    passes = comparison.passes
    highest = max((summary.peak.bytes for summary in passes.values()), default=0) or 1
    scale = Scale.fitting(highest)
    extent = extents(comparison)
    where = "a steady step" if extent == STEADY else f"the {extent}"
    add_titles(figure, comparison, f"allocated memory by category at the peak of {where}")
    axes = figure.subplots()
    axes.set_ylim(0, scale.value(highest) * 1.1)
    axes.set_xlim(-0.3, len(passes) - 0.08)
    for place, summary in enumerate(passes.values()):
        _draw_bar(axes, place, summary.peak.by_category, scale)
        _draw_labels(axes, place, summary.peak.by_category, scale)
    names = [clipped(drawable(name), 24) for name in passes]
    axes.set_xticks(range(len(passes)), names, fontsize=11, fontweight="bold")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(f"allocated memory ({scale.unit})")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _draw_bar(axes: Axes, place: int, composition: Composition, scale: Scale) -> None:
    floor = 0.0
    for category in STACK_ORDER:
        height = scale.value(composition[category])
        if height:
            axes.bar(place, height, _BAR, floor, lw=0, **fill_of(category))
            axes.plot([place - _BAR / 2, place + _BAR / 2], [floor, floor], color="white", lw=0.8)
        floor += height
    total = scale.text(sum(composition.values()))
    above: dict[str, Any] = {"xytext": (0, 4), "textcoords": "offset points"}
    axes.annotate(total, (place, floor), ha="center", va="bottom", fontweight="bold", fontsize=11, **above)


def _draw_labels(axes: Axes, place: int, composition: Composition, scale: Scale) -> None:
    """Name, size and share of every part that can be seen beside it; the others in one line below the bar."""
    top, total = axes.get_ylim()[1], sum(composition.values())
    middles = {c: m for c, m in _middles(composition, scale).items() if scale.value(composition[c]) >= _VISIBLE * top}
    heights = spread(list(middles.values()), _GAP * top, 0.02 * top)
    edge = place + _BAR / 2
    for (category, middle), height in zip(middles.items(), heights, strict=True):
        axes.plot([edge + 0.01, edge + 0.035, edge + 0.05], [middle, height, height], color="#777777", lw=0.7)
        words = f"{category_label(category)}  {scale.text(composition[category])}  "
        size = axes.text(edge + 0.06, height, words, va="center", fontsize=9)
        share: dict[str, Any] = {"xycoords": size, "va": "bottom", "fontsize": 8, "color": "#666666"}
        axes.annotate(share_text(composition[category], total, places=0), (1, 0.1), **share)
    small = [c for c in composition if composition[c] and c not in middles]
    words = ", ".join(f"{category_label(c)} {scale.text(composition[c])}" for c in small)
    below: dict[str, Any] = {"xytext": (0, -22), "textcoords": "offset points", "fontsize": 7.5, "color": "#666666"}
    if small:
        axes.annotate(f"too small to see: {words}", (place, 0), ha="center", va="top", annotation_clip=False, **below)


def _middles(composition: Composition, scale: Scale) -> dict[Category, float]:
    """The height of the middle of every part that is not empty."""
    floor = 0
    middles = {}
    for category in STACK_ORDER:
        if composition[category]:
            middles[category] = scale.value(floor + composition[category] // 2)
        floor += composition[category]
    return middles


def spread(wanted: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Heights for labels, as near to the wanted ones as a least distance between neighbours allows.

    Args:
        wanted: rising heights.
        gap: the least distance.
        lowest: no label lies below.
    """

    def bottom(run: list[float]) -> float:
        """Where a run of touching labels begins so that it lies around the middle of what it labels."""
        return max(sum(run) / len(run) - gap * (len(run) - 1) / 2, lowest)

    runs: list[list[float]] = []
    for height in wanted:
        runs.append([height])
        while len(runs) > 1 and bottom(runs[-1]) < bottom(runs[-2]) + gap * len(runs[-2]):
            last = runs.pop()
            runs[-1] += last
    return [bottom(run) + gap * index for run in runs for index in range(len(run))]
