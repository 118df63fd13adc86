"""The main table: who held what at the peak of each pass; and the peaks of the phases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.summary import Level, PassSummary, Peak
from vramscope.names import visible
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.text import category_label

_Passes = Mapping[str, PassSummary]
_BAR_CELLS = 14
_ALWAYS_SHOWN = Category.UNATTRIBUTED


@dataclass(frozen=True)
class _Extras:
    """What a table shows beside the sizes."""

    shares: bool = False
    bars: bool = False
    differences: bool = False

    @property
    def per_pass(self) -> int:
        """Columns that stand beside each pass's sizes."""
        return self.shares + self.bars


_RICH_TO_PLAIN = (
    _Extras(shares=True, bars=True, differences=True),
    _Extras(shares=True, differences=True),
    _Extras(differences=True),
    _Extras(),
)


def peaks(page: Page) -> Group:
    """Categories side by side at each pass's peak, their sums, and the allocator's own word."""

    def make(names: Sequence[str]) -> Table:
        passes = {name: page.passes[name] for name in names}
        return page.first_fitting(*(_peak_table(page, passes, extras) for extras in _RICH_TO_PLAIN))

    title = "Memory at the peak of a steady step" if page.main.steady_steps else "Memory at the peak"
    return page.section(title, page.side_by_side(page.passes, make), *_checks(page))


def _peak_table(page: Page, passes: _Passes, extras: _Extras) -> Table:
    table = ruled_table(page, "category")
    for name in passes:
        add_figures(table, page.header(name), *(["share"] if extras.shares else []))
        if extras.bars:
            table.add_column("", no_wrap=True, min_width=_BAR_CELLS)
    if _pair(passes) and extras.differences:
        add_figures(table, "difference")
    for category in CATEGORIES:
        if page.verbose or category == _ALWAYS_SHOWN or _is_anywhere(page, category):
            table.add_row(*_category_row(page, passes, category, extras))
    table.add_section()
    _add_totals(page, table, passes, extras)
    return table


def _pair(passes: _Passes) -> tuple[PassSummary, PassSummary] | None:
    """Inference and training, where a table shows both."""
    inference, training = passes.get("inference"), passes.get("training")
    return (inference, training) if inference is not None and training is not None else None


def _is_anywhere(page: Page, category: Category) -> bool:
    return any(summary.peak.by_category[category] for summary in page.passes.values())


def _category_row(page: Page, passes: _Passes, category: Category, extras: _Extras) -> list[Text]:
    style = "" if _is_anywhere(page, category) else "dim"
    if category == Category.UNATTRIBUTED and not style:
        style = "bold yellow"
    cells = [Text(category_label(category), style=style)]
    for summary in passes.values():
        cells += _pass_cells(page, summary.peak, summary.peak.by_category[category], style, extras)
    pair = _pair(passes)
    if pair and extras.differences:
        cells.append(page.change(pair[1].peak.by_category[category] - pair[0].peak.by_category[category]))
    return cells


def _pass_cells(page: Page, peak: Peak, size_bytes: int, style: str, extras: _Extras) -> list[Text]:
    cells = [page.size(size_bytes, style=style)]
    if extras.shares:
        cells.append(page.share(size_bytes, peak.bytes))
    if extras.bars:
        length = round(_BAR_CELLS * size_bytes / peak.bytes) if peak.bytes else 0
        cells.append(page.words("█" * length, "cyan"))
    return cells


def _add_totals(page: Page, table: Table, passes: _Passes, extras: _Extras) -> None:
    def spaced(cell: Callable[[PassSummary], Text]) -> list[Text]:
        """One cell for each pass, empty ones where its share and bar would be."""
        empty = [Text("")] * extras.per_pass
        return [part for summary in passes.values() for part in (cell(summary), *empty)]

    pair = _pair(passes)
    change = [page.change(pair[1].peak.bytes - pair[0].peak.bytes)] if pair and extras.differences else []
    table.add_row("total", *spaced(lambda summary: page.size(_total(summary))), *change, style="bold")
    if any(_slack(summary) for summary in page.passes.values()):
        table.add_row("of it rounding", *spaced(lambda summary: page.size(_slack(summary))))
    if pair and pair[0].peak.bytes:
        smaller = pair[0].peak.bytes
        table.add_row("times inference", *spaced(lambda summary: Text(f"{summary.peak.bytes / smaller:.1f}x")))


def _total(summary: PassSummary) -> int:
    return sum(summary.peak.by_category.values())


def _slack(summary: PassSummary) -> int:
    """What the allocator's rounding up of requests takes."""
    return _total(summary) - sum(summary.peak.requested_by_category.values())


def _checks(page: Page) -> list[Text]:
    """Whether the totals equal what the allocator itself counted; `header.warnings` tells more where they do not."""
    whose = "the simulated allocator's" if page.comparison.predicted else "the allocator's own"
    totals = {
        name: f"{visible(name, page.console.encoding)} {summary.allocator.peak_bytes:,} B"
        for name, summary in page.passes.items()
    }
    agreed = [totals[name] for name, summary in page.passes.items() if _agrees(summary)]
    differing = [totals[name] for name, summary in page.passes.items() if not _agrees(summary)]
    lines = []
    if agreed:
        lines.append(page.sentence(f"✓ equals {whose} total to the byte: {', '.join(agreed)}", "green"))
    if differing:
        lines.append(page.sentence(f"DIFFERS from {whose} total: {', '.join(differing)}", "bold red"))
    return lines


def _agrees(summary: PassSummary) -> bool:
    check = summary.allocator
    return check.max_disagreement_bytes == 0 and _total(summary) == check.peak_bytes


def moments(page: Page) -> Group:
    """When each pass is at its peak: phase, module and operator."""
    table = Table.grid(padding=(0, 3))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, summary in page.passes.items():
        table.add_row(page.name(name), _moment(page, summary))
    return page.section("Moment of the peak", table)


def _moment(page: Page, summary: PassSummary) -> Text:
    peak = summary.peak
    types = {row.path: row.type for row in summary.modules}
    kind = f" ({types[peak.module]})" if types.get(peak.module) else ""
    parts = [peak.phase or "outside every phase", f"{peak.module}{kind}" if peak.module else "", peak.operator or ""]
    return page.joined(page.name(part) for part in parts if part)


def phases(page: Page) -> Group:
    """The highest total of each phase, and the steady steps' beside the cold one's."""
    table = page.side_by_side(page.passes, lambda names: _phase_table(page, names))
    return page.section("Peak of each phase", table)


def _phase_table(page: Page, names: Sequence[str]) -> Table:
    table = ruled_table(page, "phase")
    add_figures(table, *map(page.header, names))
    passes = [page.passes[name] for name in names]
    for phase in dict.fromkeys(name for summary in passes for name in summary.phases):
        table.add_row(page.name(phase), *(_level(page, summary.phases.get(phase)) for summary in passes))
    table.add_section()
    table.add_row(page.whole, *(page.size(summary.peak.bytes) for summary in passes), style="bold")
    if page.main.steady_steps and any(summary.cold for summary in passes):
        table.add_row("cold step", *(_level(page, summary.cold) for summary in passes))
    return table


def _level(page: Page, level: Level | None) -> Text:
    return Text("") if level is None else page.size(level.peak_bytes)
