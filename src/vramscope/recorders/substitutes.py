"""Values that only data would decide, such as ``.item()``: a stated substitute, and a note of where it was needed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor

from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten


def item(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``tensor.item()``: the value where it is known (a constant), else False, 1 or 1.0.

    False, because loops such as the one in ``torch.nn.init.trunc_normal_`` run for as long as anything is still wrong.
    """
    tensor = args[0]
    try:
        with mode.memory.hide():
            return func(*args, **kwargs)
    except DataDependentOutputException:
        mode.note("a value read from a tensor (.item() or a test of it) is taken to be 1, a condition not to hold")
        return _one(tensor.dtype)


def _one(dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return False
    return 1.0 if dtype.is_floating_point else 1


def nonzero(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Every element counts: [elements, dimensions] indices, the most there can be."""
    tensor: FakeTensor = args[0]
    mode.note("nonzero: every element is taken to be nonzero")
    return mode.run(aten.new_empty.default, tensor, [tensor.numel(), tensor.dim()], dtype=torch.int64)


SUBSTITUTES: Mapping[OpOverload, Rule] = {aten._local_scalar_dense.default: item, aten.nonzero.default: nonzero}
