"""A long timeline thinned out for drawing: bounded in size, and true at every extreme."""

import numpy as np
import numpy.typing as npt

from vramscope.recording.recording import Integers

Positions = npt.NDArray[np.float64]


def rows_to_draw(positions: Positions, totals: Integers, columns: int) -> Integers:
    """The rows of a step function that suffice to draw it: per column its first, lowest, highest and last row.

    A line through these fills the same pixels as one through all rows (Jugel et al., "M4: A Visualization-Oriented Time
    Series Data Aggregation", VLDB 2014). The highest row of all is always among them, and no value is made up.

    Args:
        positions: [n] where each row stands on the axis, not decreasing.
        totals: [n] bytes from there on.
        columns: into how many equal parts the axis is cut, at least 1.

    Returns:
        Indices in order, at most 4 for each column.
    """
    count = len(positions)
    if count <= 4 * columns:
        return np.arange(count, dtype=np.int64)
    span = float(positions[-1] - positions[0]) or 1.0
    column = np.minimum((positions - positions[0]) * (columns / span), columns - 1).astype(np.int64)
    by_total = np.lexsort((totals, column))  # within a column from the lowest to the highest
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], count) - 1
    return np.unique(np.concatenate([first, last, by_total[first], by_total[last]]))
