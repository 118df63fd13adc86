"""One pair of axes of an experiment's figure: lines, bars or stacked bars, with levels and a legend."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from vramscope.findings import Panel, PanelKind, Series
from vramscope.ledger.categories import Category
from vramscope.views.pictures.fills import fill_of
from vramscope.views.text import category_label, short_number

TITLE_POINTS, WORDS_POINTS, SMALL_POINTS = 10.0, 8.5, 8.0
"""Sizes of letters: 8 points in a picture of 7.5 inches, shown 700 pixels wide, are 10 pixels."""
_COLOURS = ("#1d3461", "#c2571a", "#52bfa8", "#8a79c0")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
_WIDTHS = (3.4, 2.4, 1.8, 1.3)
"""Of lines: a line that lies on an earlier one leaves that one's edges in sight."""
_MARKERS = ("o", "s", "^", "D")
LEGEND_ROW_POINTS = 12.5
_MOST_TICKS = 6
_ROOM_BELOW = 0.1
"""For words below a level, as a share of the axis."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BAR, _NARROW, _LETTERS_PER_INCH = 0.72, 5, 13.5
"""Width of a group of bars, where groups are 1 apart; inches below which a panel is narrow; and of the names under
bars, how many letters fit upright."""


def draw_panel(axes: Axes, panel: Panel, width_inches: float, legend_rows: int) -> None:
    """Draw one panel with its title, labelled axes, levels and legend.

    ``legend_rows`` is the room above the axes, at least `legend_rows_of` the panel: the same for panels side by side.
    """
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    {PanelKind.LINES: _draw_lines, PanelKind.BARS: _draw_bars, PanelKind.STACK: _draw_stack}[panel.kind](axes, panel)
    if panel.names:
        _name_bars(axes, panel, width_inches)
    _draw_levels(axes, panel)
    above = LEGEND_ROW_POINTS * legend_rows
    axes.set_title(panel.title, loc="left", fontsize=TITLE_POINTS, fontweight="bold", pad=8 + above)
    if legend_rows_of(panel, width_inches):
        figure: Any = axes.get_figure(root=True)
        lifted = axes.transAxes + ScaledTranslation(0, (above + 3) / 72, figure.dpi_scale_trans)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 1), "bbox_transform": lifted}
        spacing: dict[str, Any] = {"columnspacing": 1.0, "labelspacing": 0.25, "handlelength": 2.4, "handleheight": 0.9}
        border: dict[str, Any] = {"borderaxespad": 0, "borderpad": 0, "frameon": False, "fontsize": WORDS_POINTS}
        axes.legend(ncols=_legend_columns(width_inches), **place, **spacing, **border)


def legend_rows_of(panel: Panel, width_inches: float) -> int:
    """How many lines the legend takes; a series that is 0 everywhere in a stack cannot be seen and needs no name."""
    shown = [series for series in panel.series if panel.kind is not PanelKind.STACK or any(series.y)]
    return -(-len(shown) // _legend_columns(width_inches)) if len(shown) > 1 else 0


def has_slanted_names(panel: Panel, width_inches: float) -> bool:
    """Whether the names under the bars are too long to stand beside each other, even one word below the other."""
    return bool(panel.names) and not any(_fit(names, width_inches) for names in (panel.names, _words(panel.names)))


def _words(names: Sequence[str]) -> list[str]:
    """For each name its longest word."""
    return [max(name.split(), key=len, default="") for name in names]


def _fit(names: Sequence[str], width_inches: float) -> bool:
    """Whether there is room for so many names if all are as long as the longest."""
    return len(names) * max(map(len, names)) <= _LETTERS_PER_INCH * width_inches


def _legend_columns(width_inches: float) -> int:
    return 2 if width_inches < _NARROW else 4


def _draw_lines(axes: Axes, panel: Panel) -> None:
    _scale_axes(axes, panel)
    for number, series in enumerate(panel.series):
        look: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _DASHES[number % len(_DASHES)]}
        mark = _MARKERS[number % len(_MARKERS)] if panel.markers else ""
        axes.plot(
            series.x,
            _drawable(series.y, panel),
            label=series.label,
            lw=_WIDTHS[number % len(_WIDTHS)],
            marker=mark,
            ms=4.5,
            **look,
        )
        if series.low:
            low, high = _drawable(series.low, panel), _drawable(series.high, panel)
            axes.fill_between(series.x, low, high, color=look["color"], alpha=0.18, lw=0)


def _scale_axes(axes: Axes, panel: Panel) -> None:
    if panel.log_x:
        axes.set_xscale("log", base=2)
        axes.set_xticks(_powers_of_two(panel))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(_power_of_ten))
        axes.yaxis.set_minor_locator(NullLocator())


def _powers_of_two(panel: Panel) -> list[float]:
    """Round places for ticks, not too many, over what is drawn."""
    places = [x for series in panel.series for x in series.x]
    first, last = math.floor(math.log2(min(places))), math.ceil(math.log2(max(places)))
    step = -(-(last - first) // _MOST_TICKS) or 1
    return [2.0**power for power in range(first, last + 1, step)]


def _power_of_ten(value: float, _: object = None) -> str:
    """Without matplotlib's own markup, which the settings turn off."""
    return f"10{str(round(math.log10(value))).translate(_SUPERSCRIPTS)}"


def _drawable(values: tuple[float, ...], panel: Panel) -> list[float]:
    """Without what a logarithmic axis has no place for."""
    return [value if value > 0 or not panel.log_y else math.nan for value in values]


def _draw_bars(axes: Axes, panel: Panel) -> None:
    width = _BAR / len(panel.series)
    for number, series in enumerate(panel.series):
        places = [place + (number + 0.5) * width - _BAR / 2 for place in range(len(panel.names))]
        errors: Any = _errors(series) if series.low else None
        bars = axes.bar(places, series.y, 0.92 * width, label=series.label, color=_COLOURS[2 * number % len(_COLOURS)])
        if errors is None:
            axes.bar_label(bars, labels=list(map(short_number, series.y)), fontsize=SMALL_POINTS, padding=2)
        else:
            axes.errorbar(places, series.y, yerr=errors, fmt="none", ecolor="#222222", capsize=3, lw=1)
    axes.margins(y=0.1)


def _errors(series: Series) -> list[list[float]]:
    """Distances of the extremes from the mean, as matplotlib wants them."""
    below = [value - low for value, low in zip(series.y, series.low, strict=True)]
    above = [high - value for value, high in zip(series.y, series.high, strict=True)]
    return [below, above]


def _draw_stack(axes: Axes, panel: Panel) -> None:
    floor = [0.0] * len(panel.names)
    for series in panel.series:
        if any(series.y):
            category = Category(series.label)
            look = {**fill_of(category), "label": category_label(category)}
            axes.bar(range(len(panel.names)), series.y, _BAR, bottom=floor, lw=0, **look)
        floor = [below + height for below, height in zip(floor, series.y, strict=True)]
    for place, height in enumerate(floor):
        axes.annotate(
            short_number(height),
            (place, height),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL_POINTS,
        )
    axes.set_ylim(0, 1.1 * max(floor))


def _name_bars(axes: Axes, panel: Panel, width_inches: float) -> None:
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    turned = turned if has_slanted_names(panel, width_inches) else {}
    broken = not turned and not _fit(panel.names, width_inches)
    names = [name.replace(" ", "\n") for name in panel.names] if broken else panel.names
    axes.set_xticks(range(len(names)), names, fontsize=WORDS_POINTS, **turned)
    axes.tick_params(axis="x", length=0)


def _draw_levels(axes: Axes, panel: Panel) -> None:
    for words, height in panel.levels.items():
        axes.axhline(height, color="#777777", lw=0.9, ls=":", zorder=0)
        left = _is_clearer_on_the_left(panel, height)
        up = _ends_below(_ends(panel, left), height)
        if not up:
            low, high = axes.get_ylim()
            axes.set_ylim(bottom=min(low, height - _ROOM_BELOW * (high - low)))
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        place["bbox"] = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5}
        axes.annotate(
            words,
            (0.01 if left else 0.99, height),
            xytext=(0, 3 if up else -3),
            ha="left" if left else "right",
            va="bottom" if up else "top",
            fontsize=SMALL_POINTS,
            color="#444444",
            **place,
        )
    if panel.levels and panel.kind is PanelKind.BARS:
        axes.set_xlim(-0.6, len(panel.names) + 0.7)  # room for the words beside the bars


def _ends(panel: Panel, left: bool) -> list[float]:
    """Heights of the lines' left or right ends."""
    lines = [series.y for series in panel.series if panel.kind is PanelKind.LINES and series.y]
    return [line[0 if left else -1] for line in lines]


def _is_clearer_on_the_left(panel: Panel, height: float) -> bool:
    """Whether the lines begin farther from a level than they end."""
    return _nearest(_ends(panel, True), height) > _nearest(_ends(panel, False), height)


def _nearest(ends: Sequence[float], height: float) -> float:
    return min((abs(end - height) for end in ends), default=0.0)


def _ends_below(ends: Sequence[float], height: float) -> bool:
    """Whether, of the lines' ends, the one nearest to a level lies below it, so that words fit above."""
    return not ends or min(ends, key=lambda end: abs(end - height)) <= height
