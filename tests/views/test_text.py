"""Names and sizes as text."""

import pytest

from vramscope.views.text import Scale, share_text


@pytest.mark.parametrize(
    ("largest", "unit"),
    [
        (0, "B"),
        (10 * 1024 - 1, "B"),
        (10 * 1024, "KiB"),
        (10 * 1024**2 - 1, "KiB"),
        (10 * 1024**2, "MiB"),
        (10 * 1024**3, "GiB"),
        (10 * 1024**5, "TiB"),
    ],
)
def test_the_unit_gives_the_largest_figure_two_digits(largest: int, unit: str) -> None:
    assert Scale.fitting(largest).unit == unit


@pytest.mark.parametrize(
    ("sizes", "unit"),
    [
        ((16 * 1024, 128 * 1024), "KiB"),  # in MiB the first would be no figure, and the second 0.1
        ((1024**2, 900 * 1024**2), "MiB"),
        ((1000, 900 * 1024**2), "MiB"),  # no unit suits both
        ((0, 5 * 1024**2), "MiB"),
        ((0, 0), "MiB"),
        ((300, 20 * 1024**3), "MiB"),  # never a larger unit than that of the table
    ],
)
def test_sizes_side_by_side_have_one_unit(sizes: tuple[int, ...], unit: str) -> None:
    assert Scale(2).for_row(*sizes).unit == unit


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (2_351_283_808, "2,242.4 MiB"),
        (-1_574_908, "-1.5 MiB"),
        (52_429, "0.1 MiB"),  # 0.05000 MiB is 52,428.8 bytes
        (52_428, "51.2 KiB"),  # just below: 0.0 MiB would be no answer
        (-592, "-592 B"),
    ],
)
def test_a_size_in_the_tables_unit(size: int, text: str) -> None:
    assert Scale(2).text(size) == text


def test_below_one_kib_sizes_are_in_bytes() -> None:
    assert [Scale(1).text(size) for size in (32, 80, 1023, 1024)] == ["32 B", "80 B", "1,023 B", "1.0 KiB"]


@pytest.mark.parametrize(
    ("part", "whole", "places", "text"),
    [
        (0, 100, 1, ""),
        (5, 0, 1, ""),
        (1, 3, 1, "33.3%"),
        (1, 2001, 1, "<0.1%"),  # 0.04998 % would round to 0.0 %
        (1, 1999, 1, "0.1%"),
        (1, 201, 0, "<1%"),
        (1, 3, 0, "33%"),
        (7, 7, 1, "100.0%"),
    ],
)
def test_a_share(part: int, whole: int, places: int, text: str) -> None:
    assert share_text(part, whole, places) == text


def test_bytes_are_exact() -> None:
    assert Scale(0).text(2_351_283_808) == "2,351,283,808 B"


def test_a_change_has_its_sign() -> None:
    assert [Scale(0).change(size) for size in (-3, 0, 3)] == ["-3 B", "0 B", "+3 B"]
