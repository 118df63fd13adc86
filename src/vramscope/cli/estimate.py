"""`vramscope estimate TARGET --gpu NAME`: inference and training of a model on a GPU that is not there."""

import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vramscope.allocator.settings import parse_settings
from vramscope.cli.options import common_options, workload_options, workload_values
from vramscope.cli.output import make_folder, prepare_outputs, write_text
from vramscope.cli.progress import progress_bar
from vramscope.errors import UsageError
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.recording.file import write_recording
from vramscope.units import format_size
from vramscope.views.json import comparison_document, to_text

if TYPE_CHECKING:
    from vramscope.predict.estimate import GpuUse
    from vramscope.predict.gpus import Gpu

PASSES = ("inference", "training")
ANNOUNCEMENTS_BESIDES_STEPS = 2


@click.command("estimate")
@click.argument("target", required=False)
@click.option("--gpu", "gpu_name", required=True, help="A GPU of the table; `--gpu list` prints the table.")
@click.option("--allocator", default="", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@workload_options
@click.option("-o", "--out", "folder", type=click.Path(path_type=Path), help="Keep recordings, JSON and PNGs in DIR.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the longer tables.")
@common_options
def estimate_command(
    target: str | None,
    gpu_name: str,
    allocator: str,
    folder: Path | None,
    top: int,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **workload: Any,
) -> None:
    """Predict what inference and training of TARGET take on a GPU, without that GPU.

    TARGET is as in `vramscope compare`. Nothing is computed and no memory is taken: tensors are fake.
    """
    from vramscope.predict.gpus import find_gpu

    if gpu_name == "list":
        click.echo(gpu_table())
        return
    if target is None:
        raise UsageError("estimate needs a TARGET: such as gpt2, or hf: and a name or folder")
    gpu = find_gpu(gpu_name)
    check_device(workload["device"])
    prepare_outputs(folder, json_path)
    comparison, uses = _predict(target, gpu, allocator, workload, quiet)
    document = to_text(_document(comparison, gpu, uses))
    if folder is not None:
        _write_folder(comparison, document, folder)
    if json_path is not None:
        write_text(json_path, document)
    if not quiet and json_path != "-":
        _print(comparison, gpu, uses, top, verbose)


def check_device(name: str) -> None:
    """Refuse ``--device``: a prediction is for the GPU that ``--gpu`` names.

    Raises:
        UsageError: a device was given.
    """
    if name != "auto":
        raise UsageError(f"--device {name} does nothing in a prediction: --gpu names the GPU; leave it out")


def gpu_table() -> str:
    """Every GPU that can be predicted for, one per line."""
    from vramscope.predict.gpus import GPUS

    lines = [f"{'NAME':<16} {'MEMORY':>9}  {'COMPUTE':<8} {'CUBLAS WORKSPACE':>16}  GPU"]
    for gpu in GPUS.values():
        compute = ".".join(map(str, gpu.capability))
        sizes = f"{format_size(gpu.memory_bytes):>9}  {compute:<8} {format_size(gpu.cublas_workspace_bytes):>16}"
        lines.append(f"{gpu.name:<16} {sizes}  {gpu.title}")
    return "\n".join(lines)


def _predict(
    target: str, gpu: "Gpu", allocator: str, workload: dict[str, Any], quiet: bool
) -> tuple[Comparison, "dict[str, GpuUse]"]:
    settings = parse_settings(allocator)
    total = len(PASSES) * (workload["steps"] + ANNOUNCEMENTS_BESIDES_STEPS)
    with progress_bar(total, quiet) as bar, redirect_stdout(sys.stderr):
        # torch loads here, so that --gpu list and a mistyped option answer at once
        from vramscope.predict.estimate import gpu_use, predict_passes
        from vramscope.workloads.workload import WorkloadOptions

        options = WorkloadOptions.from_json({**workload_values(workload), "device": "cpu"})
        recordings = predict_passes(
            target, options, gpu, PASSES, settings, lambda name, text: bar.announce(f"{name}: {text}")
        )
    uses = {name: gpu_use(recording, gpu) for name, recording in recordings.items()}
    return replace(compare_recordings(recordings), predicted=True), uses


def _document(comparison: Comparison, gpu: "Gpu", uses: "dict[str, GpuUse]") -> dict[str, Any]:
    document = comparison_document(comparison, "estimate")
    from vramscope.predict.estimate import EXPECTED_ERROR

    document["gpu"] = asdict(gpu)
    document["expected_error"] = EXPECTED_ERROR
    for name, use in uses.items():
        device = document["passes"][name]["devices"][0]
        device["reserved_peak_bytes"] = use.reserved_bytes
        device["fragmentation_bytes"] = use.fragmentation_bytes
        device["process_used_bytes_range"] = list(use.process_bytes)
        device["total_bytes"] = use.total_bytes
        device["fits"] = use.fits
    return document


def _write_folder(comparison: Comparison, document: str, folder: Path) -> None:
    from vramscope.views.png import write_peaks, write_timeline  # matplotlib takes long to load

    make_folder(folder)
    for name, ledger in comparison.ledgers.items():
        write_recording(ledger.recording, folder / f"{name}.vram")
    write_text(str(folder / "estimate.json"), document)
    write_timeline(comparison, folder / "timeline.png")
    write_peaks(comparison, folder / "peaks.png")


def _print(comparison: Comparison, gpu: "Gpu", uses: "dict[str, GpuUse]", top: int, verbose: bool) -> None:
    from rich.console import Console

    from vramscope.predict.estimate import EXPECTED_ERROR
    from vramscope.views.terminal import print_comparison

    print_comparison(comparison, Console(), top=top, verbose=verbose)
    click.echo(f"predicted for {gpu.title} ({format_size(gpu.memory_bytes)}), nothing was measured:")
    words = {True: "fits", False: "does not fit", None: "may or may not fit"}
    for name, use in uses.items():
        low, high = (format_size(size) for size in use.process_bytes)
        click.echo(
            f"  {name}: allocated {format_size(use.allocated_bytes)}, reserved {format_size(use.reserved_bytes)}, "
            f"process {low} to {high}: {words[use.fits]}"
        )
    click.echo(f"expected error: {EXPECTED_ERROR}")
