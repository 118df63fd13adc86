"""`vramscope estimate TARGET --gpu NAME`: inference and training of a model on a GPU that is not there."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vramscope.allocator.settings import parse_settings
from vramscope.cli.against import compare_with, is_of_cpu, read_measured
from vramscope.cli.options import OF_TABLES, Place, common_options, predicted_options, workload_values
from vramscope.cli.output import figures_beside, files_of, prepare_outputs, print_line
from vramscope.cli.progress import progress_bar
from vramscope.cli.results import Results, Writer, text_writer
from vramscope.cli.setup_options import check_setup, check_training_options, pass_of_setup, setup_of, setup_options
from vramscope.collector import loading
from vramscope.errors import UsageError
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.units import format_size
from vramscope.views.against_json import against_document
from vramscope.views.json import comparison_document, to_text

if TYPE_CHECKING:
    from vramscope.ledger.against import Against
    from vramscope.predict.estimate import GpuUse
    from vramscope.predict.gpus import Gpu
    from vramscope.recording.recording import Recording

PASSES = ("inference", "training")
ANNOUNCEMENTS_BESIDES_STEPS = 2


@click.command("estimate")
@click.argument("target", required=False)
@click.option("--gpu", "gpu_name", help="A GPU of the table; `--gpu list` prints the table.")
@click.option(
    "--against",
    type=Place(),
    metavar="PATH",
    help="Show the prediction beside a recording, a folder of `compare -o`, or a CUDA snapshot (.pickle).",
)
@click.option(
    "--pass",
    "pass_name",
    metavar="NAME",
    help="Predict training or inference alone; of --against, read this pass, or take what says none for it.",
)
@click.option("--allocator", default="", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@setup_options
@predicted_options
@click.option("-o", "--out", "folder", type=Place(), help="Keep recordings, JSON and PNGs in DIR.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the longer tables.")
@common_options(OF_TABLES)
def estimate_command(
    target: str | None,
    gpu_name: str | None,
    against: Path | None,
    pass_name: str | None,
    allocator: str,
    folder: Path | None,
    top: int,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **given: Any,
) -> None:
    """Predict what inference and training of TARGET take on a GPU, without that GPU.

    TARGET is as in `vramscope compare`. Nothing is computed and no memory is taken: tensors are fake.
    """
    if gpu_name == "list" and (json_path, folder) != (None, None):
        raise UsageError("--gpu list prints the table of GPUs, which goes into no file: leave --json and --out out")
    if gpu_name == "list":
        print_line(gpu_table())
        return
    if target is None:
        raise UsageError("estimate needs a TARGET: such as gpt2, or hf: and a name or folder")
    check_device(given["device"])
    beside_it = figures_beside(against) if against is not None else ()
    prepare_outputs(folder, json_path, against, *files_of(target), figures=beside_it)
    measured = read_measured(against, pass_name) if against is not None else {}
    gpu = _gpu(gpu_name, allocator, bool(measured) and is_of_cpu(measured))
    passes = _passes(pass_name or pass_of_setup(given), measured)
    check_setup(given, passes)
    check_training_options(given, pass_name)
    comparison, uses = _predict(target, gpu, allocator, given, quiet, passes)
    beside = compare_with(comparison, measured)
    document = to_text(_document(comparison, gpu, uses, beside))
    results = Results()
    if folder is not None:
        recordings = {name: ledger.recording for name, ledger in comparison.ledgers.items()}
        results.write_comparison(folder, recordings, _files(comparison, document))
    results.write_json(json_path, document)
    if not quiet and json_path != "-":
        _print(comparison, gpu, uses, beside, top, verbose)
    results.check()


def _gpu(name: str | None, allocator: str, of_cpu: bool) -> "Gpu | None":
    """The GPU to predict for; None where a recording of the CPU is to be compared with."""
    from vramscope.predict.gpus import find_gpu

    if of_cpu:
        for option, value in (("--gpu", name), ("--allocator", allocator or None)):
            if value is not None:
                raise UsageError(
                    f"{option} {value}: the recording is of the CPU, which is predicted by its own rules: leave it out"
                )
        return None
    if name is None:
        raise UsageError("estimate needs --gpu NAME, such as h100-80gb: `--gpu list` names all")
    return find_gpu(name)


def _passes(pass_name: str | None, measured: "Mapping[str, Recording]") -> tuple[str, ...]:
    if pass_name is not None and pass_name not in PASSES:
        raise UsageError(f"--pass {pass_name}: estimate predicts {' and '.join(PASSES)}")
    unknown = [name for name in measured if name not in PASSES]
    if unknown:
        raise UsageError("the recording does not say which pass it holds: add --pass training or --pass inference")
    return tuple(measured) or ((pass_name,) if pass_name else PASSES)


def check_device(name: str) -> None:
    """Refuse ``--device``: a prediction is for the GPU that ``--gpu`` names.

    Raises:
        UsageError: a device was given.
    """
    if name != "auto":
        raise UsageError(f"--device {name} does nothing in a prediction: --gpu names the GPU; leave it out")


def gpu_table() -> str:
    """Every GPU that can be predicted for, one per line."""
    from vramscope.predict.gpus import CONTEXT_BYTES, GPUS

    low, high = map(format_size, CONTEXT_BYTES)
    lines = [f"{'NAME':<18} {'MEMORY':>9} {'USABLE':>9}  {'COMPUTE':<7} {'SMS':>3}  {'CUBLAS':>8}  GPU"]
    for gpu, before in zip(GPUS.values(), (None, *GPUS.values()), strict=False):
        if before is None or before.generation != gpu.generation:
            lines += ["", gpu.generation]
        compute = ".".join(map(str, gpu.capability))
        sizes = f"{format_size(gpu.memory_bytes):>9} {format_size(gpu.usable_bytes):>9}"
        rest = f"{compute:<7} {gpu.multiprocessors:>3}  {format_size(gpu.cublas_workspace_bytes):>8}  {gpu.title}"
        lines.append(f"{gpu.name:<18} {sizes}  {rest}")
    lines += [
        "",
        f"USABLE is what CUDA has for all programs; a context takes {low} to {high} of it.",
        "COMPUTE is the compute capability, SMS the number of streaming multiprocessors,",
        "CUBLAS the workspace that each thread with matrix products takes.",
    ]
    return "\n".join(lines)


def _predict(
    target: str,
    gpu: "Gpu | None",
    allocator: str,
    given: dict[str, Any],
    quiet: bool,
    passes: Sequence[str],
) -> tuple[Comparison, "dict[str, GpuUse]"]:
    settings = parse_settings(allocator)
    total = len(passes) * (given["steps"] + ANNOUNCEMENTS_BESIDES_STEPS)
    with progress_bar(total, quiet) as bar, redirect_stdout(sys.stderr):
        with loading():  # torch, so that --gpu list and a mistyped option answer at once
            from vramscope.predict.estimate import gpu_use, predict_on_cpu, predict_passes
            from vramscope.workloads.passes import load_for
            from vramscope.workloads.workload import WorkloadOptions

            load_for(*passes)

        options = WorkloadOptions.from_json({**workload_values(given), "device": "cpu"})
        setup = setup_of(given)

        def progress(name: str, text: str) -> None:
            bar.announce(f"{name}: {text}")

        recordings = (
            predict_on_cpu(target, options, passes, progress, setup)
            if gpu is None
            else predict_passes(target, options, gpu, passes, settings, progress, setup)
        )
    uses = {name: gpu_use(recording, gpu) for name, recording in recordings.items()} if gpu is not None else {}
    return replace(compare_recordings(recordings), predicted=True), uses


def _memory_words(gpu: "Gpu") -> str:
    return f"{format_size(gpu.usable_bytes)} usable of {format_size(gpu.memory_bytes)}"


def _document(
    comparison: Comparison, gpu: "Gpu | None", uses: "dict[str, GpuUse]", beside: "dict[str, Against]"
) -> dict[str, Any]:
    document = comparison_document(comparison, "estimate")
    if gpu is not None:
        document["gpu"] = asdict(gpu)
        document["expected_error"] = _expected_error(comparison)
    if beside:
        document["against"] = {name: against_document(against) for name, against in beside.items()}
    for name, use in uses.items():
        device = document["passes"][name]["devices"][0]
        device["reserved_peak_bytes"] = use.reserved_bytes
        device["fragmentation_bytes"] = use.fragmentation_bytes
        device["process_used_bytes_range"] = list(use.process_bytes)
        device["total_bytes"] = use.total_bytes
        device["fits"] = use.fits
    return document


def _files(comparison: Comparison, document: str) -> dict[str, Writer]:
    """What is kept beside the recordings, by name."""
    from vramscope.views.png import write_peaks, write_timeline  # matplotlib takes long to load

    return {
        "estimate.json": text_writer(document),
        "timeline.png": partial(write_timeline, comparison),
        "peaks.png": partial(write_peaks, comparison),
    }


def _print(
    comparison: Comparison,
    gpu: "Gpu | None",
    uses: "dict[str, GpuUse]",
    beside: "dict[str, Against]",
    top: int,
    verbose: bool,
) -> None:
    from vramscope.views.console import result_console
    from vramscope.views.terminal import print_comparison
    from vramscope.views.terminal.against import print_against

    console = result_console()
    print_comparison(comparison, console, top=top, verbose=verbose)
    if gpu is not None:
        _print_uses(gpu, uses)
        print_line(f"expected error: {_expected_error(comparison)}")
        if beside:
            print_line("")
    for name, against in beside.items():
        print_against(name, against, console)


def _print_uses(gpu: "Gpu", uses: "dict[str, GpuUse]") -> None:
    print_line(f"predicted for {gpu.title} ({_memory_words(gpu)}), nothing was measured:")
    words = {True: "fits", False: "does not fit", None: "may or may not fit"}
    for name, use in uses.items():
        low, high = (format_size(size) for size in use.process_bytes)
        print_line(
            f"  {name}: allocated {format_size(use.allocated_bytes)}, reserved {format_size(use.reserved_bytes)}, "
            f"process {low} to {high}: {words[use.fits]}"
        )


def _expected_error(comparison: Comparison) -> str:
    """What is known of predictions for this kind of model."""
    from vramscope.predict.scores import expected_error, kind_of, read_scores

    any_pass = next(iter(comparison.ledgers.values()))
    return expected_error(kind_of(any_pass.recording), read_scores())
