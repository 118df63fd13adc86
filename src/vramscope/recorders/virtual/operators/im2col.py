"""Windows of images written out and added up again, in memory that begins at another size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten


def im2col_rules() -> Mapping[OpOverload, Rule]:
    """Rules for ``nn.Unfold`` and ``nn.Fold``, by operator."""
    return dict.fromkeys((aten.im2col.default, aten.col2im.default), resized)


def resized(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result is first as large as the input, then resized: a smaller one keeps the memory.

    Source: ``im2col_cpu`` and ``col2im_cpu`` in aten/src/ATen/native/Im2Col.cpp and Col2Im.cpp; their like in cuda/.
    """
    given = args[0]
    first = mode.run(aten.empty_like.default, given, memory_format=torch.contiguous_format)
    result = mode.describe(func, *args, **kwargs)
    if result.numel() <= given.numel():
        return mode.shrink(first, result.shape)
    mode.memory.see(result)
    del first
    return result
