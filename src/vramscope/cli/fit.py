"""`vramscope fit TARGET --gpu NAME`: the largest batch, or sequence, that fits, by predicting."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vramscope.allocator.settings import parse_settings
from vramscope.cli.estimate import check_device
from vramscope.cli.fit_words import document_of, picture_of, words_of
from vramscope.cli.options import Place, about, common_options, predicted_options, workload_values
from vramscope.cli.output import files_of, prepare_outputs, print_line
from vramscope.cli.progress import progress_bar
from vramscope.cli.results import Results, Writer, text_writer
from vramscope.cli.setup_options import check_setup, check_training_options, setup_of, setup_options
from vramscope.collector import loading
from vramscope.errors import NothingToTrainError, UsageError
from vramscope.predict.gpus import Gpu, find_gpu, nearest_gpu
from vramscope.predict.workers import Workers
from vramscope.units import format_size, parse_share, parse_size
from vramscope.views.json import to_text

if TYPE_CHECKING:
    from vramscope.predict.fit import Fit

_USUAL_PREDICTIONS = 30


@click.command("fit")
@click.argument("target")
@click.option("--gpu", "gpu_name", help="A GPU of the table; `vramscope estimate --gpu list` prints it.")
@click.option("--vram", help="Memory for all programs of the GPU, such as 24GiB; instead of --gpu, or beside it.")
@click.option("--headroom", default="5%", show_default=True, help="What stays free: a percentage or a size.")
@click.option(
    "--over",
    type=click.Choice(["batch", "seq"]),
    default="batch",
    show_default=True,
    help="What is made as large as fits.",
)
@click.option(
    "--pass",
    "name",
    type=click.Choice(["training", "inference"]),
    default="training",
    show_default=True,
    help="What is to fit.",
)
@click.option("--allocator", default="", metavar="SETTINGS", help="As in PYTORCH_CUDA_ALLOC_CONF.")
@setup_options
@predicted_options
@click.option("-o", "--out", "folder", type=Place(), help="Keep fit.json and fit.png in DIR.")
@common_options("Every size that was predicted, in bytes.")
def fit_command(
    target: str,
    gpu_name: str | None,
    vram: str | None,
    headroom: str,
    over: str,
    name: str,
    allocator: str,
    folder: Path | None,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Find the largest batch of TARGET that a GPU has memory for, and what remedies would do for the next one.

    Every figure is a prediction of its own; leaves the process with 1 where not even batch 1 fits.
    """
    _check(given, over, name)
    gpu, usable_bytes = _memory(gpu_name, vram)
    room = _headroom(headroom, usable_bytes)
    prepare_outputs(folder, json_path, *files_of(target))
    found = _search(target, over, name, (gpu, usable_bytes, headroom, room), allocator, given, quiet)
    document = to_text(document_of(found))
    results = Results()
    if folder is not None:
        results.write_folder(folder, _files(found, document))
    results.write_json(json_path, document)
    if not quiet and json_path != "-":
        print_line(words_of(found, verbose))
    results.check()
    return 0 if found.fits else 1


def _files(found: "Fit", document: str) -> dict[str, Writer]:
    """What is kept, by name."""
    from vramscope.views.experiments.figure import write_picture  # matplotlib takes long to load

    return {"fit.json": text_writer(document), "fit.png": partial(write_picture, picture_of(found))}


def _check(given: dict[str, Any], over: str, name: str) -> None:
    if given[over] is not None:
        raise UsageError(f"--{over} is what fit looks for: leave it out, or use estimate")
    check_device(given["device"])
    check_setup(given, (name,))
    check_training_options(given, name)


def _memory(gpu_name: str | None, vram: str | None) -> tuple[Gpu, int]:
    """The GPU whose rules hold, and the bytes that all its programs may take."""
    if gpu_name is None and vram is None:
        raise UsageError("fit needs --gpu NAME or --vram SIZE; `vramscope estimate --gpu list` names the GPUs")
    with about("--vram"):
        size = None if vram is None else _positive(parse_size(vram))
    if gpu_name is not None:
        gpu = find_gpu(gpu_name)
        return gpu, gpu.usable_bytes if size is None else size
    assert size is not None  # one of the two was given
    return nearest_gpu(size), size


def _headroom(text: str, usable_bytes: int) -> int:
    with about("--headroom"):
        size = parse_share(text, usable_bytes)
    if size >= usable_bytes:
        raise UsageError(f"--headroom {text} leaves nothing of {format_size(usable_bytes)}: give less")
    return size


def _positive(size: int) -> int:
    if size <= 0:
        raise UsageError(f"{size} B leaves no memory to fit into: give a size such as 24GiB")
    return size


def _search(
    target: str,
    over: str,
    name: str,
    memory: tuple[Gpu, int, str, int],
    allocator: str,
    given: dict[str, Any],
    quiet: bool,
) -> "Fit":
    settings = parse_settings(allocator)
    gpu, usable_bytes, headroom, room = memory
    with Workers(name) as workers, progress_bar(_USUAL_PREDICTIONS, quiet) as bar:
        with loading():  # torch, after all checks
            from vramscope.predict.fit import Limit, fit, limits_of_neighbours
            from vramscope.predict.remedies import Plan
            from vramscope.workloads.workload import WorkloadOptions

        options = WorkloadOptions.from_json({**workload_values(given), "device": "cpu"})
        plan = Plan(target, options, name, settings, setup_of(given))
        limit = Limit(gpu, usable_bytes, room)
        others = limits_of_neighbours(limit, lambda size: parse_share(headroom, size))
        try:
            return fit(plan, over, limit, others, workers, bar.announce)
        except NothingToTrainError as error:
            raise UsageError(f"{error}; --pass inference takes the model as it is") from error
        except UsageError as error:
            raise _about_size(error, over) from error


def _about_size(error: UsageError, over: str) -> UsageError:
    """The error as it is to be said where the size was not given, but tried."""
    given = f"--{over} does nothing"
    if not str(error).startswith(given):
        return error
    why = str(error).removeprefix(given).removesuffix(": leave it out")
    remedy = "give it one, or choose another --over" if why.startswith(":") else "choose another --over"
    return UsageError(f"fit varies {over}, which does nothing{why}; {remedy}")
