"""Losses: cross entropy for the models whose task is known, and what to do where none is given."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from vramscope.errors import WorkloadError
from vramscope.recorders.labels import nested_tensors

SURROGATE_NOTE = (
    "no loss was given: training uses the output's own .loss, else the mean of its first floating-point tensor; "
    "return a Workload with loss= for the real one"
)


def cross_entropy(outputs: Any, targets: Any) -> Tensor:
    """Mean cross entropy of logits ``[..., classes]`` against class numbers ``[...]``."""
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))


def default_loss(outputs: Any, _targets: Any) -> Tensor:
    """``outputs.loss`` where there is one, else the mean of the first floating-point tensor in the outputs.

    Raises:
        WorkloadError: there is neither.
    """
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(own, Tensor):
        return own
    for _, tensor in nested_tensors(outputs):
        if tensor.is_floating_point():
            return tensor.mean()
    raise WorkloadError(
        f"no loss to be had: forward returned {type(outputs).__name__} without a floating-point tensor; "
        "give a Workload with loss="
    )
