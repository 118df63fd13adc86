"""The ranks of a distributed run for a person: how uneven they are, and the whole run of the worst one."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ranks import RankedPass, merge_ranks, worst_rank
from vramscope.ledger.run import RunSummary
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.terminal.run import print_run


def print_ranked_run(
    runs: Mapping[int, RunSummary], missing: Sequence[int], console: Console, *, top: int = 10, verbose: bool = False
) -> None:
    """Print each rank's peaks, and the run of the rank that is highest; ``missing`` ranks have left no recording."""
    for name, ranked in merge_ranks(runs).items():
        _print_pass(name, ranked, console, verbose)
    worst = worst_rank(runs)
    page = Page(Comparison({}, {}, runs[worst].passes, {}), console, top, verbose)
    if missing:
        numbers = ", ".join(map(str, missing))
        page.print(page.name(f"No recording of rank {numbers}: it ended before its first step, or elsewhere.", "bold"))
    page.print(page.section(f"Rank {worst}, the highest" if len(runs) > 1 else f"Rank {worst}"))
    print_run(runs[worst], console, top=top, verbose=verbose)


def _print_pass(name: str, ranked: RankedPass, console: Console, verbose: bool) -> None:
    page = Page(Comparison({}, {}, {name: ranked.worst}, {}), console, top=0, verbose=verbose)
    table = ruled_table(page, "rank")
    add_figures(table, "peak")
    for rank, size in ranked.peak_bytes.items():
        table.add_row(f"{rank}", page.size(size))
    remark = f"rank {ranked.worst_rank} is highest, {ranked.imbalance:.2f}x the mean"
    page.print(page.section(f"Ranks, {name}", table, remark=remark))
