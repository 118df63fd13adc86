"""Thinning out a timeline: bounded, and true at every extreme."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vramscope.views.sampling import rows_to_draw

# positions are nanoseconds or event numbers: whole numbers, far from where floats run out
STEPS = st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**12)), min_size=1, max_size=400)
COLUMNS = st.integers(1, 40)


def columns_of(steps: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    gaps, totals = zip(*steps, strict=True)
    return np.cumsum(gaps, dtype=np.float64), np.array(totals, dtype=np.int64)


@given(STEPS, COLUMNS)
def test_the_extremes_and_both_ends_stay(steps: list[tuple[float, int]], columns: int) -> None:
    positions, totals = columns_of(steps)
    rows = rows_to_draw(positions, totals, columns)
    assert totals[rows].max() == totals.max()
    assert totals[rows].min() == totals.min()
    assert (rows[0], rows[-1]) == (0, len(totals) - 1)


@given(STEPS, COLUMNS)
def test_the_rows_are_bounded_and_in_order(steps: list[tuple[float, int]], columns: int) -> None:
    rows = rows_to_draw(*columns_of(steps), columns)
    assert 1 <= len(rows) <= 4 * columns
    assert np.all(np.diff(rows) > 0)


@given(STEPS, COLUMNS)
def test_every_column_keeps_its_own_extremes(steps: list[tuple[float, int]], columns: int) -> None:
    positions, totals = columns_of(steps)
    rows = rows_to_draw(positions, totals, columns)
    span = (positions[-1] - positions[0]) or 1.0
    column = np.minimum((positions - positions[0]) * (columns / span), columns - 1).astype(int)
    for number in np.unique(column):
        mine = totals[column == number]
        kept = totals[rows][column[rows] == number]
        assert (kept.min(), kept.max()) == (mine.min(), mine.max())
        assert (kept[0], kept[-1]) == (mine[0], mine[-1])


def test_no_rows_give_no_rows() -> None:
    assert len(rows_to_draw(np.zeros(0), np.zeros(0, dtype=np.int64), 10)) == 0
