"""Reductions on the CPU: copies of what is reduced, which the CPU's kernels take in the type of the result."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_FLOAT_BYTES, _INDEX_BYTES = 4, 8
_CASTS = (
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.nansum.default,
    aten.prod.default,
    aten.prod.dim_int,
    aten.cumsum.default,
    aten.cumprod.default,
)


def reduction_rules() -> Mapping[OpOverload, Rule]:
    """The CPU's rules for reductions, by operator."""
    return {
        **dict.fromkeys(_CASTS, of_its_results_type),
        **dict.fromkeys((aten.mean.default, aten.mean.dim), mean),
        **dict.fromkeys((aten.median.default, aten.nanmedian.default), of_a_copy),
        aten.kthvalue.default: kthvalue,
        aten.logsumexp.default: logsumexp,
        **dict.fromkeys((aten._softmax.default, aten._log_softmax.default), softmax),
        **dict.fromkeys(
            (aten._softmax_backward_data.default, aten._log_softmax_backward_data.default), softmax_backward
        ),
    }


def of_its_results_type(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result, then the whole input in the result's type where they differ: a count of truths takes 8 B for each.

    Source: ``make_reduction_from_out_ty`` in aten/src/ATen/native/ReduceOpsUtils.h, ``impl_func_cum_ops`` in
    aten/src/ATen/native/ReduceOps.cpp.
    """
    result = mode.run(func, *args, **kwargs)
    _cast(mode, args[0], result)
    return result


def _cast(mode: VirtualMode, given: Tensor, result: Tensor) -> None:
    if result.dtype != given.dtype:
        mode.memory.pass_through((given.numel() * result.element_size(),))


def mean(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """As `of_its_results_type`; a mean of 16-bit numbers is made of a float32 sum of a float32 copy.

    Source: ``mean_dim`` (``TORCH_IMPL_FUNC(mean_out)``) in aten/src/ATen/native/ReduceOps.cpp.
    """
    result = mode.run(func, *args, **kwargs)
    if result.dtype in _HALVES:
        mode.memory.pass_through((result.numel() * _FLOAT_BYTES, args[0].numel() * _FLOAT_BYTES))
    else:
        _cast(mode, args[0], result)
    return result


def of_a_copy(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The input once more, to be ordered in place, then the result. Source: ``median_impl`` in native/Sorting.cpp."""
    copy = mode.run(aten.clone.default, args[0]) if args[0].numel() else None
    result = mode.run(func, *args, **kwargs)
    del copy
    return result


def kthvalue(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Values and places, then the input and its places, int64, to be ordered in place.

    Source: ``kthvalue_out_impl_cpu`` in aten/src/ATen/native/Sorting.cpp.
    """
    results = mode.run(func, *args, **kwargs)
    given = args[0]
    if given.dim():
        mode.memory.pass_through((given.numel() * given.element_size(), given.numel() * _INDEX_BYTES))
    return results


def logsumexp(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The largest numbers, those of them that are infinite, every difference to them, and the sum of these.

    On a GPU too. Source: ``logsumexp_out_impl`` in aten/src/ATen/native/ReduceOps.cpp.
    """
    given, dimensions, *keep = args
    if not given.numel():
        return mode.run(func, *args, **kwargs)
    if not (given.is_floating_point() or given.is_complex()):
        given = mode.run(aten._to_copy.default, given, dtype=torch.get_default_dtype())
    largest = mode.run_rule(aten.amax.default, given, dimensions, True)
    absolute = mode.run(aten.abs.default, largest)
    infinite = mode.run(aten.isinf.default, largest)
    del infinite, absolute
    differences = mode.run(aten.sub.Tensor, given, largest)
    result = mode.run_rule(aten.sum.dim_IntList, differences, dimensions, *keep)
    del differences, largest
    return result


def softmax(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result, and a copy of an input whose numbers do not lie in order.

    Source: ``TORCH_IMPL_FUNC(softmax_cpu_out)`` and its like in aten/src/ATen/native/SoftMax.cpp.
    """
    result = mode.run(func, *args, **kwargs)
    given = args[0]
    if not given.is_contiguous():
        mode.memory.pass_through((given.numel() * given.element_size(),))
    return result


def softmax_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradient in order, and copies of gradient and result that are not, as the repeated gradient of a sum.

    Source: ``TORCH_META_FUNC(softmax_backward)`` and ``TORCH_IMPL_FUNC(softmax_backward_cpu_out)`` in
    aten/src/ATen/native/SoftMax.cpp, and their like.
    """
    made = mode.describe(func, *args, **kwargs)
    result = mode.run(aten.empty_like.default, made, memory_format=torch.contiguous_format)
    given = (part for part in args[:2] if not part.is_contiguous())
    mode.memory.pass_through([part.numel() * part.element_size() for part in given])
    return result
