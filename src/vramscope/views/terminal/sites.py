"""Source lines whose tensors are alive at the peak."""

import os.path
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.sites import NO_PYTHON_FRAME, Site
from vramscope.names import visible
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.text import category_label


@dataclass(frozen=True)
class _Extras:
    """What a table shows in columns of their own beside the lines and what they hold."""

    functions: bool = False
    categories: bool = False
    shares: bool = False


_RICH_TO_PLAIN = (_Extras(functions=True, categories=True, shares=True), _Extras(categories=True, shares=True))
_NARROWER = (_Extras(categories=True), _Extras())


def sites(page: Page) -> Group | None:
    """The lines that hold most at the peak, the rest in one line, so that the column sums to the peak.

    None where no line is known.
    """
    found = sorted(page.main.sites, key=lambda site: -site.bytes_at_peak)
    if all(site.file == NO_PYTHON_FRAME for site in found):
        return None
    folder = common_folder(site.file for site in found)
    tables = [_site_table(page, found, folder, extras) for extras in _RICH_TO_PLAIN]
    narrower = [_site_table(page, found, folder, extras) for extras in _NARROWER]
    table = page.first_fitting(*tables, narrower=narrower)
    return page.section(f"Source lines at the {page.main_name} peak", table, remark=folder_remark(page, folder))


def _site_table(page: Page, found: Sequence[Site], folder: str, extras: _Extras) -> Table:
    table = ruled_table(page, "line")
    if extras.functions:
        table.add_column("function", overflow="fold")
    if extras.categories:
        table.add_column("category", no_wrap=True)
    add_figures(table, "at the peak", *(["share"] if extras.shares else []))
    total = sum(site.bytes_at_peak for site in found)

    def figures(sites: Sequence[Site]) -> list[Text]:
        held = sum(site.bytes_at_peak for site in sites)
        return [page.size(held), *([page.share(held, total)] if extras.shares else [])]

    for site in found[: page.top]:
        table.add_row(*_place(page, site, folder, extras), *figures([site]))
    rest = found[page.top :]
    blanks = [""] * (extras.functions + extras.categories)
    if rest:
        table.add_row(f"{len(rest)} more", *blanks, *figures(rest))
    table.add_section()
    table.add_row("total", *blanks, page.size(total), style="bold")
    return table


def _place(page: Page, site: Site, folder: str, extras: _Extras) -> list[Text]:
    """The line, its function and its category, which stands behind the line where it has no column."""
    file = within(site.file, folder)
    place = page.name(f"{file}:{site.line}") if site.line > 0 else page.name(file, "dim")
    category = category_label(site.category)
    if not extras.categories:
        place.append_text(page.words(f" {category}", "dim"))
    function = [page.name(site.function, "dim")] if extras.functions else []
    return [place, *function, *([Text(category)] if extras.categories else [])]


def common_folder(files: Iterable[str]) -> str:
    """The folder that all absolute paths share; empty where there is none, or where it is the whole disk."""
    absolute = [Path(file) for file in files if Path(file).is_absolute()]
    if not absolute or len({file.drive for file in absolute}) > 1:
        return ""
    folder = Path(os.path.commonpath([file.parent for file in absolute]))
    return "" if folder == folder.parent else str(folder)


def within(file: str, folder: str) -> str:
    """A file's path as seen from the folder that ``common_folder`` found."""
    return os.path.relpath(file, folder) if folder and Path(file).is_absolute() else file


def folder_remark(page: Page, folder: str) -> str:
    """Where the files of a table lie, said once; empty where they share no folder."""
    return f"files in {visible(folder, page.console.encoding)}" if folder else ""
