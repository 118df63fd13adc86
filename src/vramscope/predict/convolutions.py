"""Convolutions on CUDA: in which layout they are computed, and what is copied into it.

What cuDNN takes for itself is not known, see `vramscope.predict.limits`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from vramscope.predict.in_order import copies_into
from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten
_IN_ORDER = torch.contiguous_format
_LINE, _IMAGE, _VOLUME = 3, 4, 5
"""Dimensions of a weight."""
_TOGETHER = {_IMAGE: torch.channels_last, _VOLUME: torch.channels_last_3d}
"""The layout in which channels lie together, by the dimensions of a weight."""
Tensors = tuple[Tensor, Tensor, Tensor]
"""The gradient that comes, the input and the weight."""
Gradients = tuple[Tensor | None, ...]
"""Of the input and of the weight."""


def convolution_rules() -> Mapping[OpOverload, Rule]:
    """The rules for convolutions, and for transposed ones."""
    return {aten.convolution.default: convolution, aten.convolution_backward.default: convolution_backward}


def layout_of(one: Tensor, other: Tensor) -> torch.memory_format:
    """The layout that cuDNN computes two tensors in: channels together where they are so in one of them.

    Source: ``cudnn_conv_suggest_memory_format`` in aten/src/ATen/native/ConvUtils.h.
    """
    together = _TOGETHER.get(other.dim())
    if together is None or torch.float64 in (one.dtype, other.dtype):
        return _IN_ORDER
    return together if together in (suggest_memory_format(one), suggest_memory_format(other)) else _IN_ORDER


def is_depthwise(given: Tensor, weight: Tensor, transposed: bool, groups: int) -> bool:
    """Whether PyTorch's own kernel convolves each channel by itself: in two dimensions at most, and in order.

    In float16 cuDNN may do it too, which makes the gradients of input and weight the other way round.

    Source: ``ConvParams::is_depthwise`` and ``use_cudnn_depthwise`` in aten/src/ATen/native/Convolution.cpp.
    """
    alone = not transposed and given.shape[1] == groups > 1 and weight.shape[0] % groups == 0
    return alone and weight.dim() < _VOLUME and layout_of(given, weight) == _IN_ORDER


def convolution(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The input's copy, which lasts until the result is there; the result; the weight's copy.

    Source: ``_convolution`` in aten/src/ATen/native/Convolution.cpp, whose ``view4d`` puts sequences in order, and
    ``cudnn_convolution`` and ``cudnn_convolution_transpose`` in cudnn/ConvShared.cpp.
    """
    if not torch.backends.cudnn.enabled:
        return mode.run(func, *args, **kwargs)
    given, weight = args[:2]
    layout = layout_of(given, weight)
    held = mode.copied(given, layout)
    result = mode.describe(func, *args, **kwargs)
    result = mode.like(result, layout)
    mode.memory.pass_through(copies_into(layout, weight))
    del held
    return result


def convolution_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of the input and the weight, and a sum for the bias's; of sequences, copies in order first.

    Source: ``convolution_backward`` in aten/src/ATen/native/Convolution.cpp.
    """
    if not torch.backends.cudnn.enabled:
        return mode.run(func, *args, **kwargs)
    gradient, given, weight = args[:3]
    transposed, groups, (*wanted, of_bias) = args[7], args[9], args[10]
    of_lines = weight.dim() == _LINE
    if of_lines:
        given, weight = (_placed(mode, tensor, _IN_ORDER) for tensor in (given, weight))
        gradient, given, weight = (mode.describe(aten.unsqueeze.default, one, 2) for one in (gradient, given, weight))
    if is_depthwise(given, weight, transposed, groups):
        results = _depthwise_gradients(mode, (gradient, given, weight), wanted)
    else:
        results = _gradients(mode, (gradient, given, weight), wanted, transposed)
    if of_lines:
        results = tuple(one if one is None else mode.describe(aten.squeeze.dim, one, 2) for one in results)
    if not of_bias:
        return *results, None
    return *results, mode.run_rule(aten.sum.dim_IntList, args[0], [0, *range(2, args[0].dim())])


def _gradients(mode: VirtualMode, tensors: Tensors, wanted: Sequence[bool], transposed: bool) -> Gradients:
    """By cuDNN, of a gradient that lies as the input or, unless this is a transposed convolution, nearly so.

    A gradient of one channel or place lies both ways: it is copied all the same, unless this is a transposed one.

    Source: ``cudnn_convolution_backward`` and ``cudnn_convolution_transpose_backward`` in
    aten/src/ATen/native/cudnn/ConvShared.cpp.
    """
    gradient, given, weight = tensors
    of_input = of_weight = None
    if wanted[1]:
        given = _placed(mode, given, layout_of(given, weight))
    layout = suggest_memory_format(given)
    if transposed:
        gradient = _placed(mode, gradient, layout)
    elif suggest_memory_format(gradient) != layout:
        gradient = mode.like(gradient, layout)
    if wanted[0]:
        layout = layout_of(gradient, weight)
        of_input = mode.like(given, layout)
        mode.memory.pass_through(copies_into(layout, weight, gradient))
    if wanted[1]:
        layout = layout_of(given, gradient)
        held = mode.copied(gradient, layout), mode.copied(given, layout)
        of_weight = mode.like(weight, layout)
        del held
    return of_input, of_weight


def _depthwise_gradients(mode: VirtualMode, tensors: Tensors, wanted: Sequence[bool]) -> Gradients:
    """By PyTorch's own kernels. Source: aten/src/ATen/native/cuda/DepthwiseConv2d.cu."""
    gradient, given, weight = tensors
    of_input = of_weight = None
    gradient = _placed(mode, gradient, _IN_ORDER)
    if wanted[1]:
        held = mode.copied(given, _IN_ORDER)
        of_weight = mode.like(weight, _IN_ORDER)
        del held
    if wanted[0]:
        of_input = mode.like(given, _IN_ORDER)
    return of_input, of_weight


def _placed(mode: VirtualMode, tensor: Tensor, layout: torch.memory_format) -> Tensor:
    copy = mode.copied(tensor, layout)
    return tensor if copy is None else copy
