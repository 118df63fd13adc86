"""A script's run for a person: the passes as ever, and below them steps, growth and what was only counted."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.growth import Growth
from vramscope.ledger.run import CountedSteps, RunSummary
from vramscope.ledger.sites import NO_PYTHON_FRAME
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.terminal.report import print_parts
from vramscope.views.terminal.sites import common_folder, folder_remark, within
from vramscope.views.text import Scale, category_label

_COUNTED = (("first", "last", "highest"), ("last", "highest"), ("highest",))
"""Which figures of counted steps are shown, all of them where there is room."""
_OLDER = (
    "a window's peaks leave out what was left behind before it; of older memory only models, gradients, optimizers and "
    "inputs count"
)
"""What `vramscope run` knows of older memory, which is only what it finds on the script's own objects."""


def print_run(summary: RunSummary, console: Console, *, top: int = 10, verbose: bool = False) -> None:
    """Print a run; ``top`` bounds the rows of long tables, ``verbose`` prints every figure in bytes."""
    if not summary.passes:
        return
    comparison = Comparison(summary.workload, summary.environment, summary.passes, {})
    page = Page(comparison, console, top, verbose)
    print_parts(page)
    for make in (_steps, _growth, _counted, _children, _notes):
        part = make(page, summary)
        if part is not None:
            page.print(part)
    page.print("")


def _notes(page: Page, summary: RunSummary) -> Group | None:
    """Remarks on the run as a whole; those on a pass stand with it."""
    told = {note for found in summary.passes.values() for note in found.notes}
    lines = [page.remark(note) for note in summary.notes if note not in told]
    return page.section("Notes on the run", *lines) if lines else None


def _steps(page: Page, summary: RunSummary) -> Group:
    table = ruled_table(page, "step")
    add_figures(table, "peak", "left behind")
    for step in summary.steps[: page.top]:
        table.add_row(f"{step.kind} {step.index}", page.size(step.peak_bytes), page.change(step.retained_growth_bytes))
    if len(summary.steps) > page.top:
        table.add_row(f"{len(summary.steps) - page.top} more", "", "")
    windows = "1 window" if summary.windows == 1 else f"{summary.windows} windows"
    older = [page.remark(_OLDER, "dim")] if summary.windows > 1 else []
    return page.section("Recorded steps", table, *older, remark=windows)


def _growth(page: Page, summary: RunSummary) -> Group | None:
    """What every step leaves behind: a leak, where it is not meant."""
    if not summary.growth:
        return None
    rows = summary.growth[: page.top]
    folder = common_folder(row.origin.file for row in rows)
    full, plain = (_growth_table(page, rows, folder, categories) for categories in (True, False))
    table = page.first_fitting(full, narrower=[plain])
    return page.section("Grows with every step", table, remark=folder_remark(page, folder))


def _growth_table(page: Page, rows: Sequence[Growth], folder: str, categories: bool) -> Table:
    """The categories have a column of their own, or stand behind the places."""
    table = ruled_table(page, "where")
    if categories:
        table.add_column("category")
    add_figures(table, "per step")
    scale = Scale(0) if page.verbose else Scale.fitting(rows[0].bytes_per_step)
    for row in rows:
        where, category = _where(page, row, folder), category_label(row.origin.category)
        names = [where, Text(category)] if categories else [page.joined([where, Text(category, style="dim")])]
        table.add_row(*names, Text(scale.change(row.bytes_per_step)))
    return table


def _where(page: Page, row: Growth, folder: str) -> Text:
    origin = row.origin
    line = "" if origin.file == NO_PYTHON_FRAME else f"{within(origin.file, folder)}:{origin.line}"
    parts = [line, f"module {origin.module}" if origin.module else "", origin.operator]
    return page.joined(page.name(part) for part in parts if part)


def _counted(page: Page, summary: RunSummary) -> Group | None:
    """Steps at whose ends live bytes were read, and nothing else."""
    if not summary.counted:
        return None
    full, *narrower = (_counted_table(page, summary.counted, headers) for headers in _COUNTED)
    method = str(summary.workload.get("live_bytes_method", ""))
    table = page.first_fitting(full, narrower=narrower)
    return page.section("Only counted, not recorded: live bytes at the end", table, remark=method)


def _counted_table(page: Page, rows: Sequence[CountedSteps], headers: Sequence[str]) -> Table:
    table = ruled_table(page, "steps")
    add_figures(table, *headers)
    for row in rows:
        name = f"{row.steps} {row.kind}, {row.first_index} to {row.last_index}"
        sizes = {"first": row.first_bytes, "last": row.last_bytes, "highest": row.highest_bytes}
        table.add_row(name, *(page.size(sizes[header]) for header in headers))
    return table


def _children(page: Page, summary: RunSummary) -> Group | None:
    if not summary.children:
        return None
    table = ruled_table(page, "process")
    add_figures(table, "RSS, at most")
    for name, size in summary.children.items():
        table.add_row(page.name(name), page.size(size))
    return page.section("Further processes", table)
