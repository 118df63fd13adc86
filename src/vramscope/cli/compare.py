"""`vramscope compare TARGET`: inference and training of one model side by side."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from vramscope.cli.autopsy import explained_failure
from vramscope.cli.options import OF_TABLES, Place, common_options, workload_options, workload_values
from vramscope.cli.output import files_of, prepare_outputs
from vramscope.cli.progress import progress_bar
from vramscope.cli.results import Results, Writer, text_writer
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.views.json import comparison_document, to_text
from vramscope.workloads.comparing import PASSES, RecordingPlan, record_passes

ANNOUNCEMENTS_BESIDES_STEPS = 2  # building the model, and the cold step


@click.command("compare")
@click.argument("target")
@workload_options
@click.option("-o", "--out", "folder", type=Place(), help="Keep recordings, JSON and PNGs in DIR.")
@click.option("--lines/--no-lines", default=True, help="Find source lines, in a run of their own.")
@click.option("--host/--no-host", default=True, help="Measure the process's own memory, in runs of their own.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the longer tables.")
@common_options(f"{OF_TABLES[:-1]}; and what the workload itself prints.")
def compare_command(
    target: str,
    folder: Path | None,
    lines: bool,
    host: bool,
    top: int,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **workload: Any,
) -> None:
    """Profile inference and training of TARGET, and show where every byte goes and why training needs more.

    TARGET is a built-in model (mlp, resnet18, vit_b16, gpt2, lstm), package.module:factory, path/to/file.py:factory,
    or hf:NAME-OR-FOLDER, timm:NAME, torchvision:NAME. Of a model without parameters to train, inference alone is shown.
    """
    prepare_outputs(folder, json_path, *files_of(target))
    plan = RecordingPlan(target, workload_values(workload), lines, host, verbose)
    total = len(PASSES) * len(plan.roles) * (workload["steps"] + ANNOUNCEMENTS_BESIDES_STEPS)
    with progress_bar(total, quiet) as bar:
        with explained_failure(folder):
            recordings = record_passes(plan, PASSES, lambda name, role, text: bar.announce(f"{name} ({role}): {text}"))
        comparison = compare_recordings(recordings)
    document = to_text(comparison_document(comparison, "compare"))
    results = Results()
    if folder is not None:
        results.write_comparison(folder, recordings, _files(comparison, document))
    results.write_json(json_path, document)
    if not quiet and json_path != "-":
        _print(comparison, top, verbose)
    results.check()


def _files(comparison: Comparison, document: str) -> dict[str, Writer]:
    """What is kept beside the recordings, by name."""
    from vramscope.views.png import write_peaks, write_timeline  # matplotlib takes long to load

    return {
        "compare.json": text_writer(document),
        "timeline.png": partial(write_timeline, comparison),
        "peaks.png": partial(write_peaks, comparison),
    }


def _print(comparison: Comparison, top: int, verbose: bool) -> None:
    from vramscope.views.console import result_console
    from vramscope.views.terminal import print_comparison

    print_comparison(comparison, result_console(), top=top, verbose=verbose)
