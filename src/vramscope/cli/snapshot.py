"""``vramscope snapshot``: what a CUDA memory snapshot says, and what other allocator settings would have done."""

import json
from pathlib import Path

import click

from vramscope.allocator.report import SnapshotReport, build_report
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.errors import OutputError
from vramscope.units import parse_size


@click.command("snapshot")
@click.argument("file", type=click.Path(path_type=Path))
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
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for snapshot.json and the segment maps.")
@click.option("--json", "json_path", metavar="PATH", help="Write the figures as JSON; - is stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and what --json - asks for.")
@click.option("-v", "--verbose", is_flag=True, help="List every allocation site.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
def snapshot_command(
    file: Path,
    settings: tuple[str, ...],
    sweep: bool,
    limit: str | None,
    out: Path | None,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Read FILE, a pickle of torch.cuda.memory._dump_snapshot.

    Shows the peak, who held it, fragmentation and rounding, and replays the trace allocation by allocation. With
    --fits the exit code is 1 if it does not fit as recorded, or under the settings given with --replay.
    """
    limit_bytes = None if limit is None else parse_size(limit)
    report = build_report(read_snapshot(file), settings, sweep, limit_bytes)
    text = _json_text(report) if json_path or out else ""
    if out is not None:
        _write_folder(report, text, out)
    if json_path == "-":
        click.echo(text, nl=False)
    elif json_path:
        _write(Path(json_path), text)
    if not quiet and json_path != "-":
        _print(report, verbose)
    if report.fits is False:
        click.get_current_context().exit(1)


def _print(report: SnapshotReport, verbose: bool) -> None:
    # rich takes a tenth of a second to import; the JSON path does without
    from rich.console import Console

    from vramscope.views.snapshot_terminal import print_snapshot

    print_snapshot(report, Console(highlight=False), verbose)


def _json_text(report: SnapshotReport) -> str:
    from vramscope.views.snapshot_json import snapshot_json

    return json.dumps(snapshot_json(report), indent=2, allow_nan=False) + "\n"


def _write_folder(report: SnapshotReport, text: str, folder: Path) -> None:
    from vramscope.views.snapshot_png import write_segment_map

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {error.strerror}; choose another with -o") from None
    _write(folder / "snapshot.json", text)
    for device in report.summary.devices:
        title = f"{device.name} at its peak of allocated memory"
        write_segment_map(device.peak, title, folder / f"segments-cuda{device.device}.png")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
