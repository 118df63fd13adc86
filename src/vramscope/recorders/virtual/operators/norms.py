"""Norms: in which order their results are made and lie, and copies of what does not lie in order.

Layer norms do the same on the CPU and on a GPU; batch norms here are the CPU's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten
Scratch = Callable[[VirtualMode, Tensor, Tensor | None], None]
"""Takes what a kernel takes for a moment, given what is normalised and its weight."""


def no_scratch(mode: VirtualMode, given: Tensor, weight: Tensor | None) -> None:
    """None, or none that is known."""


def float_statistics(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Mean and deviation of 16-bit numbers in float32, where the weights are: a normalised input under autocast.

    A batch norm's result lies as torch suggests for its input: channels together where they are there, else in order.

    Source: ``param_scalar_type`` in aten/src/ATen/native/cpu/mixed_data_type.h, ``batch_norm_cpu`` in
    aten/src/ATen/native/Normalization.cpp.
    """
    given, *others = args
    result, *statistics = mode.describe(func, *args, **kwargs)
    if func is aten.native_batch_norm.default:
        result = mode.run(aten.empty_like.default, result, memory_format=suggest_memory_format(given))
    else:
        mode.memory.see(result)
    if not any(isinstance(other, Tensor) and other.dtype != given.dtype for other in others):
        mode.memory.see(tuple(statistics))
        return result, *statistics
    empty = aten.new_empty.default
    return (result, *(mode.run(empty, given, list(one.shape), dtype=torch.float32) for one in statistics))


def layer_norm(normalise: Rule) -> Rule:
    """The rule for a layer norm: an input that does not lie in order is copied, and the copy lasts as long as that.

    Source: ``layer_norm_cpu`` in aten/src/ATen/native/layer_norm.cpp, ``layer_norm_cuda`` in
    aten/src/ATen/native/cuda/layer_norm_kernel.cu.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        copy = mode.copied(args[0])
        results = normalise(mode, func, args, kwargs)
        del copy
        return results

    return rule


def layer_norm_backward(scratch: Scratch = no_scratch) -> Rule:
    """The rule for a layer norm's backward: the gradients of input, weight and bias, in order.

    What is normalised is copied before them and the gradient after them, where they do not lie in order.

    Source: ``layer_norm_backward_cpu`` in aten/src/ATen/native/layer_norm.cpp, ``layer_norm_backward_cuda`` in
    aten/src/ATen/native/cuda/layer_norm_kernel.cu, and the kernels that they call.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        gradient, given, weight = args[0], args[1], args[5]
        copy = mode.copied(given)
        of_input, *of_parameters = mode.describe(func, *args, **kwargs)
        if of_input is not None:
            of_input = mode.run(aten.empty_like.default, given, memory_format=torch.contiguous_format)
        mode.memory.see(tuple(of_parameters))
        other = mode.copied(gradient)
        scratch(mode, given, weight)
        del other, copy
        return of_input, *of_parameters

    return rule


def batch_norm_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias; the first is made anew where all lie as torch suggests.

    Source: ``batch_norm_backward_cpu_template`` in aten/src/ATen/native/Normalization.cpp.
    """
    gradient, given = args[:2]
    of_input, *of_parameters = wanted(mode.describe(func, *args, **kwargs), args[9])
    layout = suggest_memory_format(given)
    if of_input is not None:
        of_input = mode.run(aten.empty_like.default, given, memory_format=layout)
    mode.memory.see(tuple(of_parameters))
    if of_input is not None and all(_lies(one, layout) for one in (given, gradient)):
        of_input = mode.run(aten.empty_like.default, given, memory_format=layout)
    return of_input, *of_parameters


def wanted(results: Sequence[Any], mask: Sequence[bool]) -> tuple[Any, ...]:
    """The gradients that are asked for: fakes give all of a batch norm's."""
    return tuple(result if is_wanted else None for result, is_wanted in zip(results, mask, strict=True))


def _lies(tensor: Tensor, layout: torch.memory_format) -> bool:
    return suggest_memory_format(tensor) == layout and tensor.is_contiguous(memory_format=layout)
