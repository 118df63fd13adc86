"""Options of predictions alone: what is trained, and over how many GPUs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vramscope.cli.options import Command, with_options
from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.predict.setup import Setup

_SETUP_OPTIONS = (
    click.option(
        "--train",
        "trainable",
        type=click.Choice(["all", "last", "lora"]),
        default="all",
        show_default=True,
        help="What is trained: all, the last linear layer, or LoRA's adapters (needs peft); the rest is frozen.",
    ),
    click.option(
        "--parallel", type=click.Choice(["ddp", "fsdp2"]), help="Train over several GPUs; figures are a rank's."
    ),
    click.option("--world-size", type=click.IntRange(2), help="How many GPUs [default: 2]."),
    click.option(
        "--bucket-cap-mb", type=click.IntRange(1), help="MiB of a gradient bucket of ddp [default: 25, the first 1]."
    ),
    click.option("--bucket-view", is_flag=True, help="Gradients of ddp are views of their buckets."),
    click.option("--no-reshard", is_flag=True, help="fsdp2 keeps gathered parameters from forward to backward."),
)
_OF_RANKS = {
    "world_size": "--world-size",
    "bucket_cap_mb": "--bucket-cap-mb",
    "bucket_view": "--bucket-view",
    "no_reshard": "--no-reshard",
}
_DEFAULT_WORLD_SIZE = 2
TRAINING, INFERENCE = "training", "inference"
_OF_TRAINING = {"optimizer": None, "accumulate": 1, "checkpoint": False, "foreach": None, "fused": None}
"""What a training step alone heeds, and what each of them is where it was not given."""


def setup_options(command: Command) -> Command:
    """Add the options that say what is trained, and over how many GPUs."""
    return with_options(command, _SETUP_OPTIONS)


def pass_of_setup(given: dict[str, Any]) -> str | None:
    """The one pass that these options concern; None where none of them was given."""
    return TRAINING if given["parallel"] or given["trainable"] != "all" else None


def check_setup(given: dict[str, Any], passes: Sequence[str]) -> None:
    """Refuse options that would do nothing, before torch is loaded.

    Raises:
        UsageError: an option of several GPUs without ``--parallel``, or one of training for another pass.
    """
    if pass_of_setup(given) and any(name != TRAINING for name in passes):
        raise UsageError("--parallel and --train belong to training: leave them out, or --pass inference")
    if given["parallel"] is None:
        for key, flag in _OF_RANKS.items():
            if given[key]:
                raise UsageError(f"{flag} does nothing on one GPU: give --parallel ddp or fsdp2 too")


def check_training_options(given: dict[str, Any], pass_name: str | None) -> None:
    """Refuse options of a training step where inference alone is asked for.

    Raises:
        UsageError: one was given.
    """
    if pass_name != INFERENCE:
        return
    for key, usual in _OF_TRAINING.items():
        if given[key] != usual:
            flag = f"--no-{key}" if given[key] is False else f"--{key}"
            raise UsageError(f"{flag} does nothing in inference: leave it out")


def setup_of(given: dict[str, Any]) -> "Setup":
    """The options as a prediction takes them; loads torch.

    Raises:
        UsageError: an option of the other way to share a step.
    """
    from vramscope.predict.parallel import Parallel, Ranks
    from vramscope.predict.setup import Setup
    from vramscope.predict.trainable import Trainable

    trainable = Trainable(given["trainable"])
    if given["parallel"] is None:
        return Setup(trainable)
    ranks = Ranks(
        Parallel(given["parallel"]),
        given["world_size"] or _DEFAULT_WORLD_SIZE,
        given["bucket_cap_mb"],
        given["bucket_view"],
        not given["no_reshard"],
    )
    return Setup(trainable, ranks)
