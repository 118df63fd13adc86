"""`vramscope report FILE`: a recording again, in another form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vramscope.cli.options import OF_TABLES, Place
from vramscope.cli.output import check_file, check_folder, figures_beside, make_folder, tell, write_text
from vramscope.cli.passes import load_comparison, pass_option
from vramscope.cli.results import Results
from vramscope.cli.run_report import SUMMARIES, Choice, load_window, print_runs, runs_text, summarize_files
from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.ledger.comparison import Comparison

FORMATS = ("terminal", "json", "csv", "png", "html", "perfetto", "snapshot")


@dataclass(frozen=True)
class Job:
    """What to render, and how."""

    comparison: "Comparison"
    out: Path | None
    source: Path
    choice: Choice
    top: int
    verbose: bool

    def beside(self, extension: str) -> Path:
        """Where a file goes: where the user says, or beside the recording, under its name and that of the choice."""
        return self.out or self._folder / f"{'-'.join([self._stem or 'report', *self.choice.names])}.{extension}"

    @property
    def pictures(self) -> tuple[Path, str]:
        """The folder that pictures go to, and how their names begin: plain ones are of all that a folder holds."""
        if self.out is not None:
            return self.out, ""
        return self._folder, "".join(f"{part}-" for part in (self._stem, *self.choice.names) if part)

    @property
    def _folder(self) -> Path:
        return self.source.parent if self._stem else self.source

    @property
    def _stem(self) -> str:
        """The recording's name; empty for a folder of several."""
        if self.source.is_dir() and not self.source.name.endswith(".part"):
            return ""
        return self.source.name.removesuffix(".part").removesuffix(".vram")


@click.command("report")
@click.argument("recording", type=Place())
@click.option("--format", "form", type=click.Choice(FORMATS))
@click.option("-o", "--out", type=Place(), help="Write there (png: a folder) [default: see below].")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the terminal's long tables."
)
@pass_option
@click.option("--rank", type=click.IntRange(0), help="Of a distributed run: only this rank [default: all, or worst].")
@click.option("--window", type=click.IntRange(0), help="Of a run: the window that html, png … draw [default: 0].")
@click.option("-q", "--quiet", is_flag=True, help="Do not say which files were written.")
@click.option("-v", "--verbose", is_flag=True, help=OF_TABLES)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def report_command(
    recording: Path,
    form: str | None,
    out: Path | None,
    top: int,
    pass_name: str | None,
    rank: int | None,
    window: int | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
) -> None:
    """Render RECORDING again: a .vram file, an unsealed .vram.part, or a folder that `compare -o` or `run -o` wrote.

    Of a script's run, terminal, json and csv show all windows and ranks together: each rank's peak, how uneven they
    are, and the rank with the highest peak in full. The other formats draw every event, and so one window of one rank.

    \b
    terminal   tables (the default)
    json       the figures of `compare --json`
    csv        every figure in a row of its own
    png        timeline.png, peaks.png and, where there are modules, modules.png
    html       one interactive page that opens offline; needs plotly
    perfetto   a trace for ui.perfetto.dev: memory counters, phases, modules
    snapshot   a pickle for pytorch.org/memory_viz; one pass

    terminal, json and csv go to standard output; the others beside the recording, under its name and that of a --pass,
    --rank or --window: training.html, report.html, report-training.html, training-peaks.png.
    """
    form = form or "terminal"
    _check_words(form, quiet, verbose)
    if out is not None:
        _check(form, out, recording)
    from vramscope.recording.collection import find_run  # numpy takes long to load, and --help needs none

    choice = Choice(rank, window, pass_name)
    files = find_run(recording)
    if not files and (rank, window) != (None, None):
        raise UsageError(f"--rank and --window are for recordings of `vramscope run`, which {recording} is not")
    if files and form in SUMMARIES:
        _summarize(files, choice, form, out, top, verbose)
        return
    why = "" if quiet else "this format draws every event: showing"
    comparison = load_window(files, choice, why) if files else load_comparison(recording, pass_name)
    for path in _RENDER[form](Job(comparison, out, recording, choice, top, verbose)):
        if not quiet:
            tell(f"wrote {path}")


def _summarize(files: Mapping[int, Path], choice: Choice, form: str, out: Path | None, top: int, verbose: bool) -> None:
    """A script's whole run."""
    runs = summarize_files(files, choice, form)
    if form == "terminal":
        print_runs(runs, choice, top, verbose)
    else:
        write_text("-" if out is None else str(out), runs_text(runs, form))


def _check(form: str, out: Path, recording: Path) -> None:
    """Refuse an output before any work is done for it."""
    if form == "terminal":
        raise UsageError("--out goes with a --format other than terminal, which is for standard output")
    if str(out) == "-" and form not in SUMMARIES:
        kind = "folder" if form == "png" else "file"
        raise UsageError(f"--out -: {form} does not go to standard output: name a {kind}")
    if form == "png":
        check_folder(out)
    else:
        check_file(str(out), recording, figures=figures_beside(recording))


def _check_words(form: str, quiet: bool, verbose: bool) -> None:
    """Refuse options that would do nothing."""
    if quiet and form == "terminal":
        raise UsageError("-q does nothing with the terminal view, which writes no file: leave it out")
    if verbose and form != "terminal":
        raise UsageError(f"-v is for the terminal view, and {form} has every figure anyway: leave it out")


def _terminal(job: Job) -> list[Path]:
    from vramscope.views.console import result_console
    from vramscope.views.terminal import print_comparison

    print_comparison(job.comparison, result_console(), top=job.top, verbose=job.verbose)
    return []


def _json(job: Job) -> list[Path]:
    from vramscope.views.json import comparison_document, to_text

    return _text(job, to_text(comparison_document(job.comparison, "report")))


def _csv(job: Job) -> list[Path]:
    from vramscope.views.csv import comparison_csv

    return _text(job, comparison_csv(job.comparison))


def _text(job: Job, text: str) -> list[Path]:
    write_text("-" if job.out is None else str(job.out), text)
    return [] if job.out is None or str(job.out) == "-" else [job.out]


def _png(job: Job) -> list[Path]:
    from vramscope.views.pictures.modules import has_modules
    from vramscope.views.png import write_modules, write_peaks, write_timeline

    folder, prefix = job.pictures
    make_folder(folder)
    writers = {"timeline": write_timeline, "peaks": write_peaks}
    if has_modules(job.comparison):
        writers["modules"] = write_modules
    paths = {folder / f"{prefix}{name}.png": write for name, write in writers.items()}
    results = Results()
    for path, write in paths.items():
        results.write(path, partial(write, job.comparison))
    results.check()
    return list(paths)


def _html(job: Job) -> list[Path]:
    from vramscope.views.html import write_html

    path = job.beside("html")
    write_html(job.comparison, path)
    return [path]


def _perfetto(job: Job) -> list[Path]:
    from vramscope.views.perfetto import write_perfetto

    path = job.beside("perfetto.json")
    write_perfetto(job.comparison, path)
    return [path]


def _snapshot(job: Job) -> list[Path]:
    from vramscope.views.snapshot import write_snapshot

    if len(job.comparison.ledgers) > 1:
        raise UsageError(f"a snapshot is of one pass: add --pass {' or --pass '.join(job.comparison.ledgers)}")
    path = job.beside("pickle")
    write_snapshot(next(iter(job.comparison.ledgers.values())), path)
    return [path]


_RENDER: dict[str, Callable[[Job], list[Path]]] = {
    "terminal": _terminal,
    "json": _json,
    "csv": _csv,
    "png": _png,
    "html": _html,
    "perfetto": _perfetto,
    "snapshot": _snapshot,
}
