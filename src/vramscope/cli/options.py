"""Options that several commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vramscope.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


class Place(click.Path):
    """A file or folder; an empty name, as a variable that is not set gives it, would mean the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, which has a name."""
        if value == "":
            self.fail("it is empty: name a file or folder", param, ctx)
        return super().convert(value, param, ctx)


def _not_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty: give a value, or leave it out", ctx, param)
    return value


@contextmanager
def about(option: str) -> Iterator[None]:
    """Begin what is said of a value with the option that it was given to."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


_LARGEST = 2**63 - 1
"""Of torch's sizes and seeds."""
COUNT = click.IntRange(1, _LARGEST)
SEED = click.IntRange(0, _LARGEST)

_WORKLOAD_OPTIONS = (
    click.option("--batch", type=COUNT, help="Samples in one step [default: 8; gpt2: 1]."),
    click.option("--seq", type=COUNT, help="Tokens per sample [default: 256 for gpt2, 128 for hf:]."),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=DTYPE[SHAPE]",
        help="An input to make, such as x=float32[8,3,224,224]; repeatable.",
    ),
    click.option(
        "--dtype",
        default="float32",
        show_default=True,
        help="Of parameters, buffers and floating-point inputs: float32, bfloat16 or float16.",
    ),
    click.option("--amp", metavar="DTYPE", help="Run forward and loss under torch.autocast: bfloat16 or float16."),
    click.option("--checkpoint", is_flag=True, help="Recompute activations in backward instead of keeping them."),
    click.option(
        "--accumulate",
        type=COUNT,
        default=1,
        show_default=True,
        help="Micro-batches of --batch samples whose gradients add up before the optimizer steps.",
    ),
    click.option(
        "--optimizer",
        callback=_not_empty,
        metavar="NAME[:KEY=VALUE,…]",
        help="Any of torch.optim, such as sgd:momentum=0.9, or an 8-bit one of bitsandbytes "
        "[default: the Workload's own, or adamw].",
    ),
    click.option("--foreach/--no-foreach", default=None, help="The optimizer's multi-tensor form."),
    click.option("--fused/--no-fused", default=None, help="The optimizer's fused form."),
)
_DEVICE_OPTION = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
_REFUSED_DEVICE_OPTION = click.option("--device", default="auto", hidden=True)
_STEP_OPTIONS = (
    click.option("--steps", type=COUNT, default=2, show_default=True, help="Steady steps after one cold step."),
    click.option(
        "--seed",
        type=SEED,
        default=0,
        show_default=True,
        help="Of weights, inputs and dropout.",
    ),
)
OF_TABLES = "Every figure in bytes, every category and module."
"""What ``-v`` shows where tables are printed."""
WORKLOAD_KEYS = (
    *("batch", "seq", "inputs", "dtype", "amp", "checkpoint", "accumulate"),
    *("optimizer", "foreach", "fused", "device", "steps", "seed"),
)


def workload_options(command: Command) -> Command:
    """Add the options that say what to run and how."""
    return with_options(command, (*_WORKLOAD_OPTIONS, _DEVICE_OPTION, *_STEP_OPTIONS))


def predicted_options(command: Command) -> Command:
    """Add the same to a prediction, which runs on no device: it refuses ``--device`` and does not list it."""
    return with_options(command, (*_WORKLOAD_OPTIONS, _REFUSED_DEVICE_OPTION, *_STEP_OPTIONS))


def common_options(verbose: str | None) -> Callable[[Command], Command]:
    """Add the options that say what to print.

    Args:
        verbose: what ``-v`` does for this command, None where there is no more to show.
    """
    options = (
        click.option("--json", "json_path", metavar="PATH", help="Write the figures as JSON; - is standard output."),
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and what --json - asks for."),
        *(() if verbose is None else (click.option("-v", "--verbose", is_flag=True, help=verbose),)),
        click.option("--debug", is_flag=True, help="Show a traceback with an error."),
    )
    return lambda command: with_options(command, options)


def with_options(command: Command, options: tuple[Callable[[Any], Any], ...]) -> Command:
    """The command with those options, in that order."""
    for option in reversed(options):
        command = option(command)
    return command


def workload_values(given: dict[str, Any]) -> dict[str, Any]:
    """The workload's part of a command's options, as ``WorkloadOptions.from_json`` takes it."""
    return {key: list(given[key]) if key == "inputs" else given[key] for key in WORKLOAD_KEYS}
