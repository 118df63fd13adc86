"""An experiment's figure: its panels under the answer as a headline, readable in greyscale and 700 pixels wide."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vramscope.findings import Finding, Panel, Picture
from vramscope.views.atomic import atomic_path
from vramscope.views.experiments.panels import (
    LEGEND_ROW_POINTS,
    WORDS_POINTS,
    draw_panel,
    has_slanted_names,
    legend_rows_of,
)
from vramscope.views.png import SETTINGS

WIDTH_INCHES, DOTS_PER_INCH = 7.5, 160
_ROW_INCHES, _SLANT_INCHES = 2.7, 0.45
"""A row's height, legends apart, and what slanted names take more."""
_SIZES: dict[Any, Any] = {"font.size": WORDS_POINTS, "axes.labelsize": WORDS_POINTS, "hatch.linewidth": 0.5}
_HEADLINE_POINTS, _HEADLINE_LETTERS, _HEADLINE_INCHES = 11.5, 78, 0.25
"""Of the headline: size, letters that fit on a line, and the height of one."""
_GAP = 0.04
"""Between rows, in multiples of a panel's height."""


def write_figure(finding: Finding, path: Path) -> None:
    """Write an experiment's figure as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    write_picture(finding.picture, path)


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture that is given as data as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    with figure_settings():
        canvas = FigureCanvasAgg(figure_of(picture))
        with atomic_path(path) as temporary:
            canvas.print_png(temporary)


@contextmanager
def figure_settings() -> Iterator[None]:
    """While a figure is made and drawn: the same settings everywhere, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, **_SIZES})
        yield


def figure_of(picture: Picture) -> Figure:
    """The figure, to be drawn under the same `figure_settings`."""
    rows = _rows_of(picture.panels)
    headline = textwrap.wrap(picture.headline, _HEADLINE_LETTERS)
    heights = [_height_of(row) for row in rows]
    size = (WIDTH_INCHES, sum(heights) + _HEADLINE_INCHES * len(headline))
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle("\n".join(headline), x=0.01, ha="left", fontweight="bold", fontsize=_HEADLINE_POINTS)
    parts = figure.subfigures(len(rows), 1, squeeze=False, hspace=_GAP, height_ratios=heights)[:, 0]
    for part, panels in zip(parts, rows, strict=True):
        for axes, panel in zip(part.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw_panel(axes, panel, WIDTH_INCHES / len(panels), _legend_rows(panels))
    return figure


def _height_of(panels: Sequence[Panel]) -> float:
    slanted = any(has_slanted_names(panel, WIDTH_INCHES / len(panels)) for panel in panels)
    return _ROW_INCHES + _SLANT_INCHES * slanted + _legend_rows(panels) * LEGEND_ROW_POINTS / 72


def _legend_rows(panels: Sequence[Panel]) -> int:
    return max(legend_rows_of(panel, WIDTH_INCHES / len(panels)) for panel in panels)


def _rows_of(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    """Two panels at most beside each other; of three the first has a row of its own."""
    return [panels] if len(panels) < 3 else [panels[:1], panels[1:]]
