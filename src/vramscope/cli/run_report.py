"""`vramscope report` of a script's run: all its ranks and windows together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vramscope.cli.output import tell
from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.ledger.comparison import Comparison
    from vramscope.ledger.run import RunSummary

SUMMARIES = ("terminal", "json", "csv")
"""Formats that show a whole run; the others draw every event, and so one window of one rank."""


@dataclass(frozen=True)
class Choice:
    """What of a run to show; None is all of it, or what the format chooses."""

    rank: int | None
    window: int | None
    pass_name: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The choice as parts of a file's name; none for what was left open."""
        rank = () if self.rank is None else (f"rank{self.rank}",)
        window = () if self.window is None else (f"window{self.window}",)
        return (*rank, *window, *(() if self.pass_name is None else (self.pass_name,)))


def summarize_files(files: Mapping[int, Path], choice: Choice, form: str) -> "dict[int, RunSummary]":
    """The run of every rank, or of the chosen one.

    Raises:
        RecordingError: a recording cannot be read.
        UsageError: the choice is not among them, or the format has no use for it.
    """
    from vramscope.ledger.run import summarize_run
    from vramscope.recording.file import iterate_windows

    if choice.window is not None and form in SUMMARIES:
        raise UsageError(f"--window: {form} shows all windows of a run together; it goes with html, png, perfetto")
    if choice.rank is not None and choice.rank not in files:
        raise UsageError(f"--rank {choice.rank}: there is rank {' and '.join(map(str, files))}")
    chosen = files if choice.rank is None else {choice.rank: files[choice.rank]}
    runs = {rank: summarize_run(iterate_windows(file)) for rank, file in chosen.items()}
    return {rank: _only(run, choice.pass_name) for rank, run in runs.items()}


def _only(run: "RunSummary", name: str | None) -> "RunSummary":
    if name is None:
        return run
    if name not in run.passes:
        raise UsageError(f"--pass {name}: the run has {' and '.join(run.passes)}")
    return replace(run, passes={name: run.passes[name]})


def print_runs(runs: "Mapping[int, RunSummary]", choice: Choice, top: int, verbose: bool) -> None:
    """The run, or all ranks and the worst one's run, on standard output."""
    from vramscope.ledger.ranks import missing_ranks
    from vramscope.views.console import result_console
    from vramscope.views.terminal.ranks import print_ranked_run
    from vramscope.views.terminal.run import print_run

    first = next(iter(runs.values()))
    if "ranks" in first.workload:
        missing = missing_ranks(runs) if choice.rank is None else ()
        print_ranked_run(runs, missing, result_console(), top=top, verbose=verbose)
    else:
        print_run(first, result_console(), top=top, verbose=verbose)


def runs_text(runs: "Mapping[int, RunSummary]", form: str) -> str:
    """The run as JSON, that of the worst rank with all ranks beside it, or as CSV."""
    from vramscope.ledger.ranks import merge_ranks, worst_rank
    from vramscope.views.json import to_text
    from vramscope.views.run_csv import run_csv
    from vramscope.views.run_json import run_document

    if form == "csv":
        return run_csv(runs)
    shown = runs[worst_rank(runs)]
    return to_text(run_document(shown, None, merge_ranks(runs) if "ranks" in shown.workload else {}))


def load_window(files: Mapping[int, Path], choice: Choice, why: str) -> "Comparison":
    """One window of one rank, for what needs every event; says which on standard error, after ``why`` if there is one.

    Raises:
        RecordingError: a recording cannot be read.
        UsageError: there is no such rank, window or pass, or the window is too long.
    """
    from vramscope.ledger.ranks import worst_rank
    from vramscope.ledger.run_window import compare_window
    from vramscope.recording.file import iterate_windows

    rank = choice.rank
    if rank is None:
        rank = next(iter(files)) if len(files) == 1 else worst_rank(summarize_files(files, choice, ""))
    if rank not in files:
        raise UsageError(f"--rank {rank}: there is rank {' and '.join(map(str, files))}")
    number = choice.window or 0
    comparison = compare_window(iterate_windows(files[rank]), number)
    if choice.pass_name is not None:
        comparison = _pass_of(comparison, choice.pass_name)
    of_rank = f" of rank {rank}, the highest" if len(files) > 1 and choice.rank is None else ""
    if why:
        tell(f"vramscope: {why} window {number}{of_rank}")
    return comparison


def _pass_of(comparison: "Comparison", name: str) -> "Comparison":
    if name not in comparison.passes:
        raise UsageError(f"--pass {name}: the window has {' and '.join(comparison.passes)}")
    passes, ledgers = {name: comparison.passes[name]}, {name: comparison.ledgers[name]}
    return replace(comparison, passes=passes, ledgers=ledgers)
