"""Composition over time: every pass in a panel of its own, one scale for all."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from vramscope.ledger.categories import CODE, Category
from vramscope.ledger.comparison import Comparison
from vramscope.views.palette import OTHER_PHASE, PHASE_COLOURS, STACK_ORDER
from vramscope.views.pictures.fills import fill_of
from vramscope.views.pictures.panel import Panel, Span, panel_of
from vramscope.views.pictures.words import add_titles, drawable, extents
from vramscope.views.text import Scale, category_label, short_number

_NARROWEST = 0.42
"""Least width of a panel, as a share of the widest one."""
_HEADROOM = 1.2
"""Height of the scale over the highest peak: room for the strip of phases and the peak's label."""
_STRIP = 0.945
"""Where the strip of phases begins, as a share of the height."""
_VISIBLE = 0.004
"""A category that never holds this share of the scale cannot be seen: no legend entry, except for unattributed."""
_MOST_STEP_LABELS, _MOST_LEGEND_COLUMNS = 6, 5
_RESERVED: dict[str, Any] = {"color": "#333333", "lw": 1.1, "ls": (0, (5, 2))}
"""The line of what the allocator has reserved, over the bands."""
_SHORT_FORMS = {"forward": "fwd", "backward": "bwd", "optimizer": "opt"}
_TIME_UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3))


def draw_timeline(comparison: Comparison, figure: Figure) -> None:
    """Draw the steady steps of every pass, or all of one that has none."""
    panels = [panel_of(name, ledger) for name, ledger in comparison.ledgers.items()]
    highest = max((panel.highest_bytes for panel in panels), default=0) or 1
    scale = Scale.fitting(highest)
    add_titles(figure, comparison, f"allocated memory by category over the {extents(comparison)}")
    grid: dict[str, Any] = {"width_ratios": _widths(panels)}
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False, gridspec_kw=grid)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_ylim(0, scale.value(highest) * _HEADROOM)
        axes.set_xlim(0, panel.width)
        axes.set_title(drawable(panel.name), loc="left", fontsize=10.5, fontweight="bold")
        _draw_bands(axes, panel, scale)
        _label_time(axes, panel, _step_name if comparison.predicted else _step_with_length)
    all_axes[0].set_ylabel(f"allocated memory ({scale.unit})")
    all_axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    shown = [category for category in STACK_ORDER if _is_visible(category, panels, highest)]
    _draw_legend(figure, shown, reserved=any(panel.reserved is not None for panel in panels))
    figure.draw_without_rendering()  # settles where everything lies, so that labels can be fitted
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_phases(axes, panel.phases)
        _draw_peak(axes, panel, scale)


def _widths(panels: Sequence[Panel]) -> list[float]:
    """Panels as wide as their passes are long, as far as they stay readable."""
    longest = max(panel.length_ns for panel in panels) or 1
    return [max(panel.length_ns / longest, _NARROWEST) for panel in panels]


def _draw_bands(axes: Axes, panel: Panel, scale: Scale) -> None:
    floor = np.zeros(len(panel.positions))
    for category in STACK_ORDER:
        level = floor + panel.composition[:, CODE[category]] / scale.unit_bytes
        if np.any(level > floor):
            axes.fill_between(panel.positions, floor, level, step="post", lw=0, **fill_of(category))
        floor = level
    axes.step(panel.positions, floor, where="post", color="#333333", lw=0.6)
    if panel.reserved is not None:
        axes.step(panel.positions, panel.reserved / scale.unit_bytes, where="post", **_RESERVED)


def _label_time(axes: Axes, panel: Panel, label: Callable[[Span], str]) -> None:
    """A tick with a label below the middle of each step; plain time where there are no steps."""
    if not panel.steps:
        unit, unit_ns = _time_unit(panel.length_ns)
        axes.set_xlabel(f"time ({unit})")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda position, _: f"{position / unit_ns:,g}")
        return
    for step in panel.steps[1:]:
        axes.axvline(step.begin, color="white", lw=1.2)
    every = -(-len(panel.steps) // _MOST_STEP_LABELS)
    shown = panel.steps[::every]
    axes.set_xticks([int(step.begin) + 0.5 for step in shown], [label(step) for step in shown])
    axes.tick_params(axis="x", length=0)


def _step_name(step: Span) -> str:
    """Of a prediction: how long it took says nothing about the GPU."""
    return step.name


def _step_with_length(step: Span) -> str:
    unit, unit_ns = _time_unit(step.length_ns)
    return f"{step.name}\n{short_number(step.length_ns / unit_ns)} {unit}"


def _time_unit(length_ns: int) -> tuple[str, float]:
    """The largest unit that fits into a length twice."""
    return next(((unit, size) for unit, size in _TIME_UNITS if length_ns >= 2 * size), _TIME_UNITS[-1])


def _draw_phases(axes: Axes, phases: Sequence[Span]) -> None:
    """A strip of phases on top, their names as far as they fit, and their colours faintly behind the bands."""
    for phase in phases:
        colour = PHASE_COLOURS.get(phase.name, OTHER_PHASE)
        axes.axvspan(phase.begin, phase.end, ymin=_STRIP, color=colour, lw=0)
        axes.axvspan(phase.begin, phase.end, ymax=_STRIP, color=colour, alpha=0.16, lw=0, zorder=0)
        _write_fitting(axes, (drawable(phase.name), _SHORT_FORMS.get(phase.name, "")), phase.begin, phase.end)


def _write_fitting(axes: Axes, forms: Sequence[str], begin: float, end: float) -> None:
    """The first form of a name that fits between two places in the strip; none where none fits."""
    (left, _), (right, _) = axes.transData.transform([(begin, 0), (end, 0)])
    text = axes.text((begin + end) / 2, (1 + _STRIP) / 2, "", ha="center", va="center_baseline", fontsize=8)
    text.set_transform(axes.get_xaxis_transform())
    text.set_in_layout(False)
    for form in (*forms, ""):
        text.set_text(form)
        if text.get_window_extent().width <= 0.94 * (right - left):
            return


def _draw_peak(axes: Axes, panel: Panel, scale: Scale) -> None:
    """A mark whose tip is at the peak, and its size above, moved as far as it must be to stay inside the panel."""
    place = (panel.peak_position, scale.value(panel.peak_bytes))
    axes.plot(*place, marker=CARETDOWN, color="#c00000", ms=7, clip_on=False, zorder=5)
    words = f"peak {scale.text(panel.peak_bytes)}"
    above: dict[str, Any] = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontweight": "bold"}
    # a line of reserved memory may lie behind it
    above["bbox"] = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}
    note = axes.annotate(words, place, **above)
    note.set_in_layout(False)
    box, panel_box = note.get_window_extent(), axes.get_window_extent()
    moved = max(panel_box.x0 + 4 - box.x0, 0) or min(panel_box.x1 - 4 - box.x1, 0)
    note.set_position((moved * 72 / axes.figure.dpi, 8))


def _draw_legend(figure: Figure, shown: Sequence[Category], *, reserved: bool) -> None:
    """The categories below the panels, from left to right in the order of the stack, and the allocator's line."""
    handles: list[Artist] = [Patch(label=category_label(category), lw=0, **fill_of(category)) for category in shown]
    if reserved:
        handles.append(Line2D([], [], label="reserved by the allocator", **_RESERVED))
    rows = -(-len(handles) // _MOST_LEGEND_COLUMNS) or 1
    columns = -(-len(handles) // rows) or 1
    by_column = [handle for column in range(columns) for handle in handles[column::columns]]
    figure.legend(handles=by_column, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _is_visible(category: Category, panels: Sequence[Panel], highest: int) -> bool:
    most = max(int(panel.composition[:, CODE[category]].max()) for panel in panels)
    return most > (0 if category == Category.UNATTRIBUTED else _VISIBLE * highest)
