"""Names and sizes as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramscope.views.text import Scale, share_text, visible


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("größe · 数", "größe · 数"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\tand\r", r"two\nlines\tand\r"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("zero\u200bwidth\u00a0", r"zero\u200bwidth\xa0"),
        ("\ud800", r"\ud800"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_what_cannot_be_seen_is_escaped(name: str, shown: str) -> None:
    assert visible(name) == shown


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_name_comes_out_printable_and_short(name: str) -> None:
    for encoding in ("utf-8", "ascii", "latin-1", "cp1252"):
        shown = visible(name, encoding)
        assert shown.isprintable()
        assert shown.encode(encoding).decode(encoding) == shown


@given(st.text(min_size=201, max_size=3000))
def test_a_long_name_keeps_its_beginning_and_end(name: str) -> None:
    plain = name.encode("unicode_escape").decode("ascii")
    assert f"[{len(plain) - 200} more]" in visible(plain) if len(plain) > 200 else visible(plain) == plain


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
