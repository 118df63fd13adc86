"""`vramscope fit TARGET --gpu NAME`: the largest batch that fits, by predicting."""

import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from vramscope.allocator.settings import parse_settings
from vramscope.cli.estimate import check_device
from vramscope.cli.options import common_options, workload_options, workload_values
from vramscope.cli.output import check_file, write_text
from vramscope.cli.progress import progress_bar
from vramscope.errors import UsageError
from vramscope.predict.gpus import Gpu, find_gpu
from vramscope.units import format_size, parse_size
from vramscope.views.json import SCHEMA

if TYPE_CHECKING:
    from vramscope.predict.fit import Fit

_USUAL_PREDICTIONS = 12


@click.command("fit")
@click.argument("target")
@click.option("--gpu", "gpu_name", required=True, help="A GPU of the table; `estimate --gpu list` prints it.")
@click.option("--vram", help="Memory to fit instead of the GPU's own, such as 20GiB.")
@click.option("--headroom", default="0B", show_default=True, help="Memory to leave free.")
@click.option("--pass", "name", type=click.Choice(["training", "inference"]), default="training", show_default=True)
@click.option("--allocator", default="", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@workload_options
@common_options
def fit_command(
    target: str,
    gpu_name: str,
    vram: str | None,
    headroom: str,
    name: str,
    allocator: str,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **workload: Any,
) -> int:
    """Find the largest batch of TARGET that a GPU has memory for, and what remedies would do for the next one.

    Every figure is a prediction of its own; leaves the process with 1 where not even batch 1 fits.
    """
    if workload["batch"] is not None:
        raise UsageError("--batch is what fit looks for: leave it out, or use estimate")
    check_device(workload["device"])
    gpu = find_gpu(gpu_name)
    limit_bytes = (parse_size(vram) if vram else gpu.memory_bytes) - parse_size(headroom)
    if json_path is not None:
        check_file(json_path)
    found = _search(target, gpu, name, limit_bytes, allocator, workload, quiet)
    if json_path is not None:
        write_text(json_path, json.dumps(_document(found, target, gpu, name), indent=2) + "\n")
    if not quiet and json_path != "-":
        click.echo(_text(found, target, gpu, name))
    return 0 if found.fits else 1


def _search(
    target: str, gpu: Gpu, name: str, limit_bytes: int, allocator: str, workload: dict[str, Any], quiet: bool
) -> "Fit":
    settings = parse_settings(allocator)
    with progress_bar(_USUAL_PREDICTIONS, quiet) as bar, redirect_stdout(sys.stderr):
        from vramscope.predict.fit import fit  # torch loads here, after the options were checked
        from vramscope.workloads.workload import WorkloadOptions

        options = WorkloadOptions.from_json({**workload_values(workload), "device": "cpu"})
        return fit(target, options, gpu, name, limit_bytes, settings, bar.announce)


def _document(found: "Fit", target: str, gpu: Gpu, name: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "tool": "fit",
        "target": target,
        "gpu": gpu.name,
        "pass": name,
        "batch": found.batch,
        "fits": found.fits,
        "peak_bytes": found.peak_bytes,
        "next_peak_bytes": found.next_bytes,
        "limit_bytes": found.limit_bytes,
        "remedies": [
            {"name": remedy.name, "batch": found.batch + 1, "peak_bytes": remedy.peak_bytes, "why": remedy.why}
            for remedy in found.remedies
        ],
    }


def _text(found: "Fit", target: str, gpu: Gpu, name: str) -> str:
    limit = format_size(found.limit_bytes)
    what = f"{name} of {target} on {gpu.title}, {limit} (predicted; process, the CUDA context at its largest)"
    first = (
        f"batch {found.batch} fits with {format_size(found.peak_bytes)}; "
        f"batch {found.batch + 1} would need {format_size(found.next_bytes)}"
        if found.fits
        else f"not even batch 1 fits: it needs {format_size(found.peak_bytes)}"
    )
    lines = [what, first, f"for batch {found.batch + 1}, each remedy by itself:"]
    for remedy in found.remedies:
        if remedy.peak_bytes is None:
            lines.append(f"  {remedy.name:<26} not possible: {remedy.why}")
        else:
            verdict = "fits" if remedy.peak_bytes <= found.limit_bytes else "does not fit"
            lines.append(f"  {remedy.name:<26} {format_size(remedy.peak_bytes):>12}  {verdict}")
    return "\n".join(lines)
