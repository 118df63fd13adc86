"""What fits: which table of several is taken, and how paragraphs stand."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.views.layout import LEAST_NAME, Trimmed, first_fitting, hanging, indented


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width)


def printed(what: RenderableType, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(what)
    return stream.getvalue().splitlines()


def table(name: str, figures: Sequence[str]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(overflow="fold")
    for _ in figures:
        made.add_column(no_wrap=True)
    made.add_row(name, *figures)
    return made


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (20 + 4 * 12, 4),  # a name of 20 and four figures of ten, two apart
        (20 + 3 * 12, 3),
        (LEAST_NAME + 3 * 12, 3),  # the name is folded, but no figure is left out
        (LEAST_NAME + 2 * 12, 2),
        (LEAST_NAME + 1 * 12, 1),
        (5, 1),  # there is nothing narrower
    ],
)
def test_the_richest_table_that_fits_is_taken(width: int, columns: int) -> None:
    tables = {count: table("n" * 20, ["x" * 10] * count) for count in (4, 3, 2, 1)}
    taken = first_fitting(console(width), [tables[4], tables[3]], [tables[2], tables[1]])
    assert taken is tables[columns]


def test_measuring_leaves_a_table_as_it_was() -> None:
    wide = table("n" * 40, ["x"])
    first_fitting(console(20), [wide], [table("n", ["x"])])
    assert printed(wide, 80)[0].startswith("n" * 40)


def test_paragraphs_keep_their_margins_and_no_line_ends_in_spaces() -> None:
    assert printed(Trimmed(indented(Text("one two three"))), 9) == ["  one two", "  three"]
    assert printed(Trimmed(hanging(Text("- one two three"), 2)), 9) == ["- one two", "  three"]
