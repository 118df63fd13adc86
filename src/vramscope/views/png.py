"""The pictures: composition over time, and the peaks as stacked bars.

Drawn with matplotlib's objects alone: pyplot is not touched, and a user's own matplotlib settings change nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vramscope.ledger.comparison import Comparison
from vramscope.views.atomic import atomic_path
from vramscope.views.pictures.modules import draw_modules
from vramscope.views.pictures.peaks import draw_peaks
from vramscope.views.pictures.timeline import draw_timeline

EXTENSION = "png"
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 9.0, 5.0, 200
_MOST_EXTRA_PASSES = 4
SETTINGS: dict[Any, Any] = {  # matplotlib's annotations want the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that pictures are alike everywhere
    "font.size": 9.5,
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "text.parse_math": False,  # a name may hold dollar signs
}


def write_timeline(comparison: Comparison, path: Path) -> None:
    """Write the composition of every pass over its steady steps, all on one scale, as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(comparison, path, draw_timeline)


def write_peaks(comparison: Comparison, path: Path) -> None:
    """Write the composition at each pass's peak as stacked bars, as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(comparison, path, draw_peaks)


def write_modules(comparison: Comparison, path: Path) -> None:
    """Write the modules that hold most as stacked bars, as a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(comparison, path, draw_modules)


def _write(comparison: Comparison, path: Path, draw: Callable[[Comparison, Figure], None]) -> None:
    """Draw into an empty figure, wider where there are more than two passes, and write it."""
    extra = min(max(len(comparison.passes) - 2, 0), _MOST_EXTRA_PASSES)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        size = (WIDTH_INCHES * (1 + extra / 2), HEIGHT_INCHES)
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(comparison, figure)
        with atomic_path(path) as temporary:
            canvas.print_png(temporary)
