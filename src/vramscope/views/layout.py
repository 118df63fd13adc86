"""How tables and lines meet a console's width: figures are never cut, and no line ends in spaces."""

import re
import textwrap
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

LEAST_NAME = 12
"""Columns that names need at least; longer ones are folded."""
_BEFORE_UNIT, _NO_BREAK = re.compile(r"(?<=\d) (?=([KMGT]i)?B\b)"), "\u00a0"
_UNBOUNDED = 10_000
"""Columns of a console that is wide enough for every table."""


@dataclass(frozen=True)
class Trimmed:
    """Something without the spaces that pad its lines, so that piped output holds none."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.inner, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                yield from line[:-1]
                yield line[-1]._replace(text=line[-1].text.rstrip())
            yield Segment.line()


@dataclass(frozen=True)
class Sentence:
    """A sentence over as many lines as it needs, none of which ends between a figure and its unit."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(sentence_lines(self.text, options.max_width)), style=self.style, overflow="fold")


def sentence_lines(text: str, width: int) -> list[str]:
    """A text in lines of no more than ``width`` characters, none of which ends between a figure and its unit."""
    lines = textwrap.wrap(_BEFORE_UNIT.sub(_NO_BREAK, text), width, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def indented(text: RenderableType, columns: int = 2) -> Padding:
    """A paragraph all of whose lines begin at the same column."""
    return Padding(text, (0, 0, 0, columns))


def hanging(text: Text, columns: int) -> Table:
    """A paragraph whose first characters stand to the left of all of its lines."""
    table = Table.grid()
    table.add_column(width=columns, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*text.divide([columns]))
    return table


def first_fitting(console: Console, tables: Sequence[Table], narrower: Sequence[Table] = ()) -> Table:
    """The first table that the width has room for.

    Args:
        console: whose width it is.
        tables: the richest first; all but the last one are taken only where no name is folded.
        narrower: further ones, taken where even folded names leave the figures of the others no room.
    """
    whole = (table for table in tables if _width(console, table) <= console.width)
    folded = (table for table in (tables[-1], *narrower) if leaves_room(console, table))
    return next(whole, None) or next(folded, [*tables, *narrower][-1])


def leaves_room(console: Console, table: Table) -> bool:
    """Whether the figures of a table leave its names `LEAST_NAME` columns, or what they need if that is less."""
    narrow = copy(table)
    narrow.columns = [column if column.no_wrap else replace(column, max_width=LEAST_NAME) for column in table.columns]
    return _width(console, narrow) <= console.width


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum
