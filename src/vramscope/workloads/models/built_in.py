"""What a built-in model says about itself: how it is made, fed and trained."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from vramscope.workloads.inputs import InputSpec

IMAGE_SIZE = 224
IMAGE_CLASSES = 1000  # of ImageNet-1k


@dataclass(frozen=True)
class BuiltIn:
    """A built-in model.

    Attributes:
        name: what the user types.
        build: called with ``checkpoint``, returns the model.
        inputs: called with batch and sequence length, says what ``forward`` takes.
        targets: likewise, the class numbers that cross entropy is taken against.
        batch: the default batch.
        seq: the default sequence length, None where there is none.
        longest: the longest sequence, None where any will do.
        no_checkpoint: why activation checkpointing does not apply, None where it does.
    """

    name: str
    build: Callable[[bool], nn.Module]
    inputs: Callable[[int, int], InputSpec]
    targets: Callable[[int, int], InputSpec]
    batch: int = 8
    seq: int | None = None
    longest: int | None = None
    no_checkpoint: str | None = None


def image_input(batch: int, _seq: int) -> InputSpec:
    """``[batch, 3, 224, 224]``."""
    return InputSpec("images", "float32", (batch, 3, IMAGE_SIZE, IMAGE_SIZE))


def image_class(batch: int, _seq: int) -> InputSpec:
    """``[batch]``, one of 1000 classes each."""
    return InputSpec("targets", "int64", (batch,), IMAGE_CLASSES)
