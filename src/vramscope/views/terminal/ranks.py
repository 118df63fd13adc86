"""The ranks of a distributed run for a person."""

from collections.abc import Mapping

from rich.console import Console

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ranks import RankedPass
from vramscope.views.terminal.page import Page, add_figures, ruled_table


def print_ranks(passes: Mapping[str, RankedPass], missing: int, console: Console, *, verbose: bool = False) -> None:
    """Print each rank's peak and how uneven they are; ``missing`` ranks have left no recording."""
    for name, ranked in passes.items():
        page = Page(Comparison({}, {}, {name: ranked.worst}, {}), console, top=0, verbose=verbose)
        table = ruled_table(page, "rank")
        add_figures(table, "peak")
        for rank, size in ranked.peak_bytes.items():
            table.add_row(f"{rank}", page.size(size))
        remark = f"rank {ranked.worst_rank} is highest, {ranked.imbalance:.2f}x the mean"
        page.print(page.section(f"Ranks, {name}", table, remark=remark))
        if missing:
            page.print(page.name(f"{missing} ranks have left no recording", "bold yellow"))
