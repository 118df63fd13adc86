"""Names from somewhere else, made harmless."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramscope.names import visible


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
    shown = visible(plain)
    if len(plain) <= 200:
        assert shown == plain
        return
    beginning, number, end = re.fullmatch(r"(.*)\[(\d+) more\](.*)", shown, re.DOTALL).groups()
    assert len(shown) <= 200  # what says so takes room too
    assert int(number) == len(plain) - len(beginning) - len(end)
    assert plain.startswith(beginning)
    assert plain.endswith(end)
    assert min(len(beginning), len(end)) > 80
