"""Conditions that only data decide: whether each holds is told by the operators that have made it.

Programs ask whether all elements are as they should be, and refuse to go on where they are not: arguments of
distributions (torch/distributions/distribution.py), numbers that must be finite, boxes that must have corners in order.
Or they repeat something until all are done. So a test of all elements holds, and numbers are finite; any other
condition, such as whether any element is wrong, does not hold.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
_Tell = Callable[["Truths", tuple[Any, ...]], bool | None]


class Truths:
    """The conditions of which something is told, each by the tensor that it is in, and counts of what never holds."""

    def __init__(self) -> None:
        self._told = WeakTensorKeyDictionary()

    def told(self, condition: Any) -> bool | None:
        """Whether a condition holds in every element or in none, None where nothing is told; False is 0 for a count."""
        return self._told.get(condition) if isinstance(condition, Tensor) else None

    def hold(self, condition: Any) -> bool:
        """Whether a condition is taken to hold."""
        return bool(self.told(condition))

    def made(self, func: OpOverload, args: tuple[Any, ...], result: Any) -> None:
        """An operator has given a result, perhaps a condition."""
        if len(self._told) and func._schema.is_mutable and isinstance(args[0], Tensor):
            self._told.pop(args[0], None)
        tell = _TELLS.get(func) or (_as_given if func.is_view else None)
        told = None if tell is None else tell(self, args)
        if told is None:
            return
        for part in result if isinstance(result, list | tuple) else (result,):
            if isinstance(part, Tensor) and not part.is_floating_point():
                self._told[part] = told


def _always(truths: Truths, args: tuple[Any, ...]) -> bool:
    return True


def _never(truths: Truths, args: tuple[Any, ...]) -> bool:
    return False


def _as_given(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return truths.told(args[0])


def _if_never(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return False if truths.told(args[0]) is False else None


def _opposite(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return not truths.hold(args[0]) if args[0].dtype == torch.bool else None


def _is_zero(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    if args[1] != 0:
        return None
    return truths.told(args[0]) is False or _opposite(truths, args)


def _both(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return (truths.hold(args[0]) and truths.hold(args[1])) or None


def _either(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return truths.hold(args[0]) or truths.hold(args[1]) or None


def _equals_itself(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return args[0] is args[1] or None


def _is_not_infinite(truths: Truths, args: tuple[Any, ...]) -> bool | None:
    return (isinstance(args[1], float) and math.isinf(args[1])) or None


_TELLS: Mapping[OpOverload, _Tell] = {
    **dict.fromkeys((aten.all.default, aten.all.dim, aten.all.dims, aten._is_all_true.default), _always),
    **dict.fromkeys((aten.isnan.default, aten.isinf.default), _never),
    **dict.fromkeys((aten.sum.default, aten.count_nonzero.default), _if_never),
    aten.eq.Scalar: _is_zero,
    **dict.fromkeys((aten.clone.default, aten._to_copy.default), _as_given),
    **dict.fromkeys((aten.logical_not.default, aten.bitwise_not.default), _opposite),
    # isfinite, in aten/src/ATen/native/TensorCompare.cpp, is (self == self) * (self.abs() != infinity)
    aten.eq.Tensor: _equals_itself,
    aten.ne.Scalar: _is_not_infinite,
    **dict.fromkeys((aten.logical_and.default, aten.bitwise_and.Tensor, aten.mul.Tensor), _both),
    **dict.fromkeys((aten.logical_or.default, aten.bitwise_or.Tensor), _either),
}
"""By operator, what is told of the conditions among its results."""
