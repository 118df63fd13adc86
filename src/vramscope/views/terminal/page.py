"""What all parts of the terminal view share: the console, one unit for all figures, the look of sections and tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.summary import PassSummary
from vramscope.names import visible
from vramscope.views.layout import Trimmed, first_fitting, leaves_room, sentence_lines
from vramscope.views.text import Scale, extent_words, share_text

_RULES = (2, 4)
"""Lines of a rich box that are drawn: below the header, and between sections."""
_ASCII = str.maketrans({"·": "-", "✓": "=", "█": "#"})


@dataclass(frozen=True)
class Page:
    """A comparison on its way to a console.

    ``top`` is the number of rows that long tables show; ``verbose`` prints every figure in bytes, every category, and
    every module by itself.
    """

    comparison: Comparison
    console: Console
    top: int
    verbose: bool

    @property
    def passes(self) -> Mapping[str, PassSummary]:
        """The passes by name."""
        return self.comparison.passes

    @property
    def main_name(self) -> str:
        """The pass whose modules and source lines are shown: training, or the last one."""
        return "training" if "training" in self.passes else list(self.passes)[-1]

    @property
    def main(self) -> PassSummary:
        """That pass."""
        return self.passes[self.main_name]

    @property
    def whole(self) -> str:
        """What the figures of that pass are of."""
        return extent_words(self.comparison, self.main)

    @property
    def scale(self) -> Scale:
        """The unit of all tables; bytes when verbose."""
        return Scale(0) if self.verbose else self.prose_scale

    @property
    def prose_scale(self) -> Scale:
        """The unit of sentences."""
        return Scale.fitting(max(summary.peak.bytes for summary in self.passes.values()))

    @property
    def is_unicode(self) -> bool:
        """Whether the console can show more than ASCII."""
        return self.console.encoding.lower().startswith("utf")

    def name(self, name: str, style: str = "") -> Text:
        """A name from user code: shown, never interpreted."""
        return Text(visible(name, self.console.encoding), style=style, overflow="fold")

    def remark(self, remark: str, style: str = "") -> Text:
        """A sentence that may hold names from user code: shown whole, never interpreted."""
        return Text(visible(remark, self.console.encoding, longest=None), style=style, overflow="fold")

    def header(self, name: str) -> Text:
        """A pass's name above its column."""
        return self.name(name, "dim")

    def words(self, text: str, style: str = "") -> Text:
        """Our own words, in what the console can show."""
        shown = text if self.is_unicode else visible(text.translate(_ASCII), self.console.encoding)
        return Text(shown, style=style)

    def sentence(self, text: str, style: str = "") -> Text:
        """A sentence over several lines, none of which ends between a figure and its unit."""
        return Text("\n").join(self.words(line, style) for line in sentence_lines(text, self.console.width))

    def joined(self, parts: Iterable[Text]) -> Text:
        """Short facts on one line."""
        return self.words(" · ", "dim").join(parts)

    def size(self, size_bytes: int, scale: Scale | None = None, style: str = "") -> Text:
        """A size, in the page's unit or another; zero is dim."""
        return Text((scale or self.scale).text(size_bytes), style=style if size_bytes else "dim", no_wrap=True)

    def change(self, size_bytes: int) -> Text:
        """A difference with its sign; zero is dim."""
        return Text(self.scale.change(size_bytes), style="" if size_bytes else "dim", no_wrap=True)

    def share(self, part: int, whole: int) -> Text:
        """A share of a whole."""
        return Text(share_text(part, whole), style="dim", no_wrap=True)

    def section(self, title: str, *bodies: RenderableType, remark: str = "") -> Group:
        """A heading after an empty line, and what stands below it."""
        heading = self.words(title, "bold cyan")
        if remark:
            heading.append_text(self.words(f"  {remark}", "dim"))
        return Group(Text(""), heading, *bodies)

    def first_fitting(self, *tables: Table, narrower: Sequence[Table] = ()) -> Table:
        """The first table that the width has room for; ``narrower`` ones where figures would be cut otherwise."""
        return first_fitting(self.console, tables, narrower)

    def side_by_side(self, names: Iterable[str], make: Callable[[Sequence[str]], Table]) -> RenderableType:
        """A table with a column for each name or, where figures would be cut, a table for each name."""
        names = list(names)
        whole = make(names)
        if len(names) < 2 or leaves_room(self.console, whole):
            return whole
        first, *others = (make([name]) for name in names)
        return Group(first, *(part for table in others for part in (Text(""), table)))

    def print(self, what: RenderableType) -> None:
        """Something on the console, without spaces at the ends of lines."""
        self.console.print(Trimmed(what), highlight=False)


def ruled_table(page: Page, first: str) -> Table:
    """A table with a left column of names; a new section begins with a line."""
    lines = "──" if page.is_unicode else "--"
    ruled = box.Box(
        "\n".join(f" {lines if row in _RULES else '  '} " for row in range(8)) + "\n", ascii=not page.is_unicode
    )
    table = Table(box=ruled, show_edge=False, pad_edge=False, padding=(0, 1), header_style="dim", border_style="dim")
    table.add_column(first, overflow="fold")
    return table


def add_figures(table: Table, *headers: str | Text) -> None:
    """Right-aligned columns that never wrap."""
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
