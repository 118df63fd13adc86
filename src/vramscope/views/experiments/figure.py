"""An experiment's figure: its panels side by side under the answer as a headline, readable in greyscale."""

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vramscope.findings import Finding, Panel, PanelKind, Series
from vramscope.ledger.categories import Category
from vramscope.views.atomic import atomic_path
from vramscope.views.pictures.fills import fill_of
from vramscope.views.png import SETTINGS
from vramscope.views.text import category_label

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 10.0, 4.0, 120
_COLOURS = ("#1d3461", "#c2571a", "#52bfa8", "#8a79c0")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D")
_LEGEND_COLUMNS, _LEGEND_ROW_POINTS = 2, 12
_MOST_TICKS = 6
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BAR, _SLANTED_FROM = 0.72, 18
"""Width of a group of bars, where groups are 1 apart; and the letters per panel from which names are slanted."""


def write_figure(finding: Finding, path: Path) -> None:
    """Write an experiment's figure as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "hatch.linewidth": 0.5})
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        figure.suptitle(finding.picture.headline, x=0.01, ha="left", fontweight="bold", fontsize=13)
        panels = finding.picture.panels
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw_panel(axes, panel)
        with atomic_path(path) as temporary:
            canvas.print_png(temporary)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one panel with its title, labelled axes, levels and legend."""
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    {PanelKind.LINES: _draw_lines, PanelKind.BARS: _draw_bars, PanelKind.STACK: _draw_stack}[panel.kind](axes, panel)
    _draw_levels(axes, panel)
    rows = -(-_legend_entries(panel) // _LEGEND_COLUMNS)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=6 + _LEGEND_ROW_POINTS * rows)
    if rows:
        above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1, "borderpad": 0.1}
        spacing: dict[str, Any] = {"columnspacing": 1.0, "labelspacing": 0.25, "handlelength": 2.2}
        axes.legend(ncols=_LEGEND_COLUMNS, fontsize=8, frameon=False, **above, **spacing)


def _legend_entries(panel: Panel) -> int:
    """How many series need a name; a series that is 0 everywhere in a stack cannot be seen."""
    shown = [series for series in panel.series if panel.kind is not PanelKind.STACK or any(series.y)]
    return len(shown) if len(shown) > 1 else 0


def _draw_lines(axes: Axes, panel: Panel) -> None:
    _scale_axes(axes, panel)
    for number, series in enumerate(panel.series):
        look: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _DASHES[number % len(_DASHES)]}
        mark = _MARKERS[number % len(_MARKERS)] if panel.markers else ""
        axes.plot(series.x, _drawable(series.y, panel), label=series.label, lw=1.8, marker=mark, ms=4.5, **look)
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
            axes.bar_label(bars, labels=list(map(_number, series.y)), fontsize=8, padding=2)
        else:
            axes.errorbar(places, series.y, yerr=errors, fmt="none", ecolor="#222222", capsize=3, lw=1)
    axes.margins(y=0.1)
    _name_bars(axes, panel)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


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
        axes.annotate(_number(height), (place, height), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, 1.1 * max(floor))
    _name_bars(axes, panel)


def _name_bars(axes: Axes, panel: Panel) -> None:
    slanted = sum(map(len, panel.names)) > _SLANTED_FROM
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(len(panel.names)), panel.names, fontsize=8.5, **turned)
    axes.tick_params(axis="x", length=0)


def _draw_levels(axes: Axes, panel: Panel) -> None:
    for words, height in panel.levels.items():
        axes.axhline(height, color="#777777", lw=0.9, ls=":", zorder=0)
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        place["bbox"] = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5}
        axes.annotate(words, (0.99, height), xytext=(0, 3), ha="right", fontsize=7.5, color="#555555", **place)
    if panel.levels and panel.kind is PanelKind.BARS:
        axes.set_xlim(-0.6, len(panel.names) + 0.7)  # room for the words beside the bars
