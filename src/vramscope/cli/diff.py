"""`vramscope diff A B`: what changed between two recordings, and a gate on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vramscope.cli.options import Place
from vramscope.cli.output import check_file, figures_beside, write_text
from vramscope.cli.passes import load_comparison, pass_option
from vramscope.cli.run_report import Choice, load_window
from vramscope.errors import UsageError
from vramscope.names import visible

if TYPE_CHECKING:
    from vramscope.ledger.comparison import Comparison
    from vramscope.ledger.diff import Diff

REGRESSION = 1


@click.command("diff")
@click.argument("before", type=Place())
@click.argument("after", type=Place())
@click.option(
    "--fail-over",
    "fail_over",
    multiple=True,
    metavar="[NAME:]VALUE",
    help="Exit with 1 if a figure grew by more: 5%, peak:5%, activations:20MiB, module=PATH:0; repeatable.",
)
@click.option("--format", "form", type=click.Choice(["terminal", "json", "markdown"]), default="terminal")
@click.option("-o", "--out", default="-", metavar="PATH", help="Write there; - is standard output.")
@click.option("--json", "json_path", metavar="PATH", help="Write the figures as JSON as well; - is standard output.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the longer tables.")
@pass_option
@click.option("--window", type=click.IntRange(0), help="Of scripts' runs: which window; by default the first.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and what --json - asks for.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def diff_command(
    before: Path,
    after: Path,
    fail_over: tuple[str, ...],
    form: str,
    out: str,
    json_path: str | None,
    top: int,
    pass_name: str | None,
    window: int | None,
    quiet: bool,
    debug: bool,
) -> int:
    """Compare two recordings, or two folders that `compare -o` wrote: what appeared, went, grew and shrank.

    NAME is peak (the default), a category, or module=PATH, which takes in everything below that module. Folders are
    compared pass by pass; two files are compared whatever passes they are of. Of a script's run one window is compared,
    of several ranks that of the one with the highest peak.
    """
    from vramscope.ledger.diff import diff_comparisons, require_same_passes  # numpy is slow, and --help needs none
    from vramscope.ledger.thresholds import parse_threshold
    from vramscope.recording.collection import is_collection

    thresholds = [parse_threshold(text) for text in fail_over]
    _check_outputs(form, out, json_path, (before, after))
    sides = [_side(path, Choice(None, window, pass_name), quiet) for path in (before, after)]
    names = (visible(str(before)), visible(str(after)))
    if is_collection(before) or is_collection(after):  # two files that are named one by one are meant as they are
        require_same_passes(sides[0], sides[1], names)
    diff = diff_comparisons(sides[0], sides[1], thresholds, names)
    if json_path is not None:
        _json(diff, json_path, top)
    if json_path != "-" and not (quiet and out == "-"):
        _RENDER[form](diff, out, top)
    return REGRESSION if diff.regressions else 0


def _side(path: Path, choice: Choice, quiet: bool) -> "Comparison":
    from vramscope.recording.collection import find_run

    files = find_run(path)
    if files:
        return load_window(files, choice, "" if quiet else f"{path} is a script's run: comparing")
    if choice.window is not None:
        raise UsageError(f"--window is for recordings of `vramscope run`, which {path} is not")
    return load_comparison(path, choice.pass_name)


def _check_outputs(form: str, out: str, json_path: str | None, sources: Sequence[Path]) -> None:
    if form == "terminal" and out != "-":
        raise UsageError("--out goes with --format json or markdown: the terminal view is for standard output")
    if form != "terminal" and out == json_path == "-":
        raise UsageError(f"--json -: the {form} view goes to standard output already: name a file for one of the two")
    for path in (out, json_path):
        if path is not None:
            check_file(path, *sources, figures=figures_beside(*sources))


def _terminal(diff: "Diff", out: str, top: int) -> None:
    from vramscope.views.console import result_console
    from vramscope.views.terminal.diff import print_diff

    print_diff(diff, result_console(), top=top)


def _json(diff: "Diff", out: str, top: int) -> None:
    from vramscope.views.diff_json import diff_document
    from vramscope.views.json import to_text

    write_text(out, to_text(diff_document(diff)))


def _markdown(diff: "Diff", out: str, top: int) -> None:
    from vramscope.views.markdown import diff_markdown

    write_text(out, diff_markdown(diff, top=top))


_RENDER: dict[str, Callable[["Diff", str, int], None]] = {"terminal": _terminal, "json": _json, "markdown": _markdown}
