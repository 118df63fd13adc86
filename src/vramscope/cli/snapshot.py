"""``vramscope snapshot``: what a CUDA memory snapshot says, and what other allocator settings would have done."""

from functools import partial
from pathlib import Path

import click

from vramscope.allocator.report import SnapshotReport, build_report
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.cli.options import Place, about, common_options
from vramscope.cli.output import prepare_outputs
from vramscope.cli.results import Results, Writer, text_writer
from vramscope.errors import UsageError
from vramscope.recording.collection import SNAPSHOT
from vramscope.recording.file import write_recording
from vramscope.units import format_size, parse_size, spaced_size
from vramscope.views.json import to_text


@click.command("snapshot")
@click.argument("file", type=Place())
@click.option(
    "--replay",
    "settings",
    multiple=True,
    metavar="SETTINGS",
    help="Run the trace under settings such as expandable_segments:True,max_split_size_mb:128; repeatable.",
)
@click.option("--sweep", is_flag=True, help="Try common settings and rank them by peak reserved memory.")
@click.option(
    "--fits", "limit", metavar="SIZE", help="Would it fit if the allocator could reserve SIZE, such as 24GiB?"
)
@click.option("-o", "--out", "folder", type=Place(), help="Keep recording, JSON and segment maps in DIR.")
@common_options("Every place that allocated, not the largest alone.")
def snapshot_command(
    file: Path,
    settings: tuple[str, ...],
    sweep: bool,
    limit: str | None,
    folder: Path | None,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
) -> None:
    """Read FILE, a pickle of torch.cuda.memory._dump_snapshot.

    Shows the peak, who held it, fragmentation and rounding, and replays the trace allocation by allocation. With
    --fits the exit code is 1 where it would not fit as recorded or, with --replay, under none of the settings given.
    """
    if any(not text.strip() for text in settings):
        raise UsageError("--replay: it is empty: give settings such as expandable_segments:True, or leave it out")
    with about("--fits"):
        limit_bytes, limit_words = (None, "") if limit is None else (parse_size(limit), spaced_size(limit))
    prepare_outputs(folder, json_path, file)
    snapshot = read_snapshot(file)
    report = build_report(snapshot, settings, sweep, limit_bytes, limit_words)
    text = _document(report) if json_path or folder else ""
    results = Results()
    if folder is not None:
        results.write_folder(folder, _files(snapshot, report, text))
    results.write_json(json_path, text)
    if not quiet and json_path != "-":
        _print(report, verbose)
    results.check()
    if report.fits is False:
        click.get_current_context().exit(1)


def _print(report: SnapshotReport, verbose: bool) -> None:
    # rich takes a tenth of a second to import; the JSON path does without
    from vramscope.views.console import result_console
    from vramscope.views.snapshot_terminal import print_snapshot

    print_snapshot(report, result_console(highlight=False), verbose)


def _document(report: SnapshotReport) -> str:
    from vramscope.views.snapshot_json import snapshot_json

    return to_text(snapshot_json(report))


def _files(snapshot: Snapshot, report: SnapshotReport, text: str) -> dict[str, Writer]:
    """What is kept, by name."""
    from vramscope.views.snapshot_png import write_segment_map

    recording = import_snapshot(snapshot)
    files: dict[str, Writer] = {
        "snapshot.json": text_writer(text),
        f"{SNAPSHOT}.vram": partial(write_recording, recording),
    }
    for device in () if snapshot.exported_from else report.summary.devices:  # an export has no segments to draw
        layout = device.peak.layout
        of = f"{format_size(layout.allocated)} of {format_size(layout.reserved)} reserved"
        title = f"{device.name} at its peak of allocated memory: {of}"
        files[f"segments-cuda{device.device}.png"] = partial(write_segment_map, device.peak, title)
    return files
