"""Kernels on CUDA that read their input in order: of one that lies otherwise, they make a copy for themselves.

A transposed view lies otherwise, and so does the gradient of a sum or a mean: one number that is repeated.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from vramscope.recorders.virtual.mode import Rule, VirtualMode, run
from vramscope.recorders.virtual.operators.rolls import roll

aten = torch.ops.aten
Copies = Callable[..., list[int]]
"""Bytes of the copies of those among some tensors that do not lie as a kernel reads them."""
_READ_AS_THEY_LIE = ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
_READ_IN_ORDER = ("nearest1d", "nearest2d", "nearest3d")
_EXACT = ("_nearest_exact1d", "_nearest_exact2d", "_nearest_exact3d", "_bilinear2d_aa", "_bicubic2d_aa")


def in_order_copies(*tensors: Tensor) -> list[int]:
    """Bytes of the copies of those tensors that do not lie in order."""
    return [tensor.numel() * tensor.element_size() for tensor in tensors if not tensor.is_contiguous()]


def image_copies(*tensors: Tensor) -> list[int]:
    """Bytes of the copies of those tensors that lie neither in order nor, as images may, with channels together."""
    return in_order_copies(
        *(tensor for tensor in tensors if not tensor.is_contiguous(memory_format=suggest_memory_format(tensor)))
    )


def in_order_rules() -> Mapping[OpOverload, Rule]:
    """Rules for operators of which nothing else is to be told.

    Source: files in aten/src/ATen/native/cuda that are called after the operators, such as AveragePool2d.cu,
    DilatedMaxPool3d.cu, ReflectionPad.cu, UpSampleNearest2d.cu and ScanKernels.cpp.
    """
    padding = [
        getattr(aten, f"reflection_pad{dimensions}d{end}") for dimensions in (1, 2, 3) for end in ("", "_backward")
    ]
    upsampling, of_upsampling = _upsampling()
    return {
        **dict.fromkeys(
            (
                *(packet.default for packet in padding),
                *(aten.avg_pool3d.default, aten.avg_pool3d_backward.default),
                aten.max_pool3d_with_indices_backward.default,
                *(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool2d_backward.default),
                *(aten.adaptive_max_pool3d.default, aten.adaptive_max_pool3d_backward.default),
                aten._adaptive_avg_pool3d_backward.default,
                *(aten.cummax.default, aten.cummin.default, aten.logcumsumexp.default),
            ),
            reads(in_order_copies),
        ),
        **dict.fromkeys(
            (
                *(aten.avg_pool2d.default, aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default),
                *(*upsampling, *of_upsampling),
            ),
            reads(image_copies),
        ),
        **dict.fromkeys(
            (aten.avg_pool2d_backward.default, aten.max_pool2d_with_indices_backward.default), reads(image_copies, 1, 0)
        ),
        **dict.fromkeys((aten._adaptive_avg_pool3d.default, aten.kthvalue.default), copied_before),
        aten.roll.default: roll(copied_before),
        aten._adaptive_avg_pool2d.default: adaptive_average,
        aten._adaptive_avg_pool2d_backward.default: adaptive_average_backward,
    }


def _upsampling() -> tuple[list[OpOverload], list[OpOverload]]:
    """Operators that read their input in order, and the backward of all of them, which reads its gradient so."""
    forward = [f"upsample_{name}" for name in _READ_IN_ORDER] + [f"_upsample{name}" for name in _EXACT]
    all_of_them = [*forward, *(f"upsample_{name}" for name in _READ_AS_THEY_LIE)]
    return (
        [getattr(aten, name).default for name in forward],
        [getattr(aten, f"{name}_backward").default for name in all_of_them],
    )


def reads(copies: Copies, *places: int, rule: Rule = run) -> Rule:
    """A rule, and copies of arguments when the results are there, which go when the kernel has run.

    Args:
        copies: which tensors are copied.
        places: of the arguments, in the order of their copies; the first one where none is given.
        rule: for all else.
    """

    def read(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = rule(mode, func, args, kwargs)
        mode.memory.pass_through(copies(*(args[place] for place in places or (0,))))
        return results

    return read


def copied_before(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A copy of the first argument before the results, where it does not lie in order."""
    held = [mode.scratch(size) for size in in_order_copies(args[0])]
    results = mode.run(func, *args, **kwargs)
    held.clear()
    return results


def adaptive_average(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """As `copied_before`, for several images alone, whose channels may lie together.

    Source: ``adaptive_avg_pool2d_out_cuda_template`` in aten/src/ATen/native/cuda/AdaptiveAveragePooling.cu.
    """
    several = args[0].dim() == 4 and not _has_channels_together(args[0])
    return (copied_before if several else run)(mode, func, args, kwargs)


def adaptive_average_backward(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """A gradient that is read in order, unless channels lie together in the input. Source: as `adaptive_average`."""
    return (run if _has_channels_together(args[1]) else reads(in_order_copies))(mode, func, args, kwargs)


def _has_channels_together(images: Tensor) -> bool:
    return suggest_memory_format(images) == torch.channels_last
