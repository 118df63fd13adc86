"""Rolling along several dimensions, as windows of images are shifted: one dimension after another."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten


def roll(along_one: Rule) -> Rule:
    """The rule for ``torch.roll``: what was rolled along all dimensions but the last is there until the end.

    Source: ``roll_common`` in aten/src/ATen/native/TensorTransformations.h.

    Args:
        along_one: the rule for a single dimension.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given, shifts, *rest = args
        dimensions = rest[0] if rest else kwargs.get("dims", [])
        if len(dimensions) < 2 or not given.numel():
            return along_one(mode, func, args, kwargs)
        rolled: list[Tensor] = [given]
        for shift, dimension in zip(shifts, dimensions, strict=True):
            rolled.append(along_one(mode, func, (rolled[-1], [shift], [dimension]), {}))
        return rolled[-1]

    return rule
