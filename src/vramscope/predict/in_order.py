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
_IMAGE, _VOLUME = 3, 4
"""Dimensions of a single one: channels, depth, height and width."""
Copies = Callable[..., list[int]]
"""Bytes of the copies of those among some tensors that do not lie as a kernel reads them."""
_READ_AS_THEY_LIE = ("upsample_linear1d", "upsample_bicubic2d", "upsample_trilinear3d")
_OF_IMAGES = ("upsample_nearest2d", "_upsample_nearest_exact2d")
_IN_ORDER = (
    *("upsample_nearest1d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
_FEW_CHANNELS = 4
"""With fewer, nearest neighbours of an image are read in order although its channels lie together."""


def copies_into(layout: torch.memory_format, *tensors: Tensor) -> list[int]:
    """Bytes of the copies of those tensors that do not lie so."""
    outside = (tensor for tensor in tensors if not tensor.is_contiguous(memory_format=layout))
    return [tensor.numel() * tensor.element_size() for tensor in outside]


def in_order_copies(*tensors: Tensor) -> list[int]:
    """Bytes of the copies of those tensors that do not lie in order."""
    return copies_into(torch.contiguous_format, *tensors)


def image_copies(*tensors: Tensor) -> list[int]:
    """Bytes of the copies of those tensors that do not lie as the first one of them should.

    That is in order or, as several images or volumes may, with channels together.
    """
    return copies_into(suggest_memory_format(tensors[0]), *tensors)


def in_order_rules() -> Mapping[OpOverload, Rule]:
    """Rules for operators of which nothing else is to be told.

    Source: files in aten/src/ATen/native/cuda that are called after the operators, such as AveragePool2d.cu,
    DilatedMaxPool3d.cu, ReflectionPad.cu, SoftMax.cu, UpSampleNearest2d.cu and ScanKernels.cpp.
    """
    copies_alike = (*_OF_IMAGES, "upsample_bilinear2d")
    upsampling = (*_IN_ORDER, *_READ_AS_THEY_LIE)
    return {
        **dict.fromkeys(
            (
                *(aten.reflection_pad1d.default, aten.reflection_pad1d_backward.default),
                aten.reflection_pad3d.default,
                *(aten.avg_pool3d.default, aten.avg_pool3d_backward.default),
                *(aten.adaptive_max_pool3d_backward.default, aten._adaptive_avg_pool3d_backward.default),
                *(aten.cummax.default, aten.cummin.default),
            ),
            reads(in_order_copies),
        ),
        **dict.fromkeys(
            (
                *(aten.avg_pool2d.default, aten.max_pool2d_with_indices.default),
                *(getattr(aten, f"{name}_backward").default for name in upsampling),
            ),
            reads(image_copies),
        ),
        **dict.fromkeys(
            (aten.avg_pool2d_backward.default, aten.max_pool2d_with_indices_backward.default), reads(image_copies, 1, 0)
        ),
        **dict.fromkeys((getattr(aten, f"{name}_backward").default for name in copies_alike), image_backward),
        **dict.fromkeys((aten.reflection_pad2d.default, aten.reflection_pad2d_backward.default), reflected_image),
        aten.max_pool3d_with_indices.default: alone(_VOLUME, reads(in_order_copies), of_several=reads(image_copies)),
        aten.max_pool3d_with_indices_backward.default: alone(
            _VOLUME, reads(in_order_copies), of_several=volumes_backward
        ),
        aten.adaptive_max_pool3d.default: alone(_VOLUME, run, of_several=reads(in_order_copies)),
        aten._adaptive_avg_pool3d.default: alone(_VOLUME, run, of_several=copied_before),
        **dict.fromkeys((getattr(aten, name).default for name in _OF_IMAGES), nearest_image),
        **dict.fromkeys((getattr(aten, name).default for name in _IN_ORDER), made_in_order),
        aten.adaptive_max_pool2d.default: alone(_IMAGE, run, of_several=made_in_order),
        aten.adaptive_max_pool2d_backward.default: adaptive_maximum_backward,
        aten._adaptive_avg_pool2d.default: adaptive_average,
        aten._adaptive_avg_pool2d_backward.default: adaptive_average_backward,
        aten._log_softmax_backward_data.default: reads(in_order_copies, 0, 1),
        aten.kthvalue.default: copied_before,
        aten.roll.default: roll(copied_before),
    }


def reads(copies: Copies, *places: int) -> Rule:
    """The rule for copies of arguments that are made when the results are there, and go when the kernel has run.

    Args:
        copies: which tensors are copied.
        places: of the arguments, in the order of their copies; the first one where none is given.
    """

    def read(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = mode.run(func, *args, **kwargs)
        mode.memory.pass_through(copies(*(args[place] for place in places or (0,))))
        return results

    return read


def copied_before(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A copy of the first argument before the results, where it does not lie in order."""
    held = [mode.scratch(size) for size in in_order_copies(args[0])]
    results = mode.run(func, *args, **kwargs)
    held.clear()
    return results


def made_in_order(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Results that do not lie in order are made so first, of an input in order.

    Source: ``adaptive_max_pool2d_out_cuda`` in aten/src/ATen/native/cuda/AdaptiveMaxPooling2d.cu, UpSampleNearest3d.cu
    and UpSampleBilinear2d.cu.
    """
    results = mode.run(func, *args, **kwargs)
    made = results if isinstance(results, tuple) else (results,)
    mode.memory.pass_through(in_order_copies(*made, args[0]))
    return results


def reflected_image(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A result in order whatever the input is, and then the copy of what does not lie so.

    Source: ``reflection_pad2d_cuda`` and its backward in aten/src/ATen/native/cuda/ReflectionPad.cu.
    """
    result = mode.like(mode.describe(func, *args, **kwargs), torch.contiguous_format)
    mode.memory.pass_through(in_order_copies(args[0]))
    return result


def nearest_image(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """An image whose channels lie together is read so where they are not few; one of the same size is just copied.

    Source: ``upsample_nearest2d_out_cuda_template`` in aten/src/ATen/native/cuda/UpSampleNearest2d.cu.
    """
    if args[0].shape[2:] == tuple(args[1]):
        return mode.run(func, *args, **kwargs)
    as_it_lies = _has_channels_together(args[0]) and args[0].shape[1] >= _FEW_CHANNELS
    return (reads(image_copies) if as_it_lies else made_in_order)(mode, func, args, kwargs)


def image_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradient of an enlarged image, which is just copied where the image has the same size.

    Source: ``upsample_nearest2d_backward_out_cuda_template``, and that of UpSampleBilinear2d.cu.
    """
    is_alike = list(args[1]) == list(args[2][2:])
    return (run if is_alike else reads(image_copies))(mode, func, args, kwargs)


def adaptive_maximum_backward(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Gradient and indices that are read in order, and a result that is made so.

    Source: ``adaptive_max_pool2d_backward_out_cuda`` in aten/src/ATen/native/cuda/AdaptiveMaxPooling2d.cu.
    """
    result = mode.run(func, *args, **kwargs)
    mode.memory.pass_through(in_order_copies(args[0], args[2], result))
    return result


def alone(dimensions: int, of_one: Rule, of_several: Rule) -> Rule:
    """The rule for an operator that reads a single image or volume otherwise than several.

    Source: AdaptiveMaxPooling2d.cu, AdaptiveMaxPooling3d.cu, AdaptiveAveragePooling3d.cu and DilatedMaxPool3d.cu in
    aten/src/ATen/native/cuda.

    Args:
        dimensions: of a single one.
        of_one: the rule for it.
        of_several: the rule for all else.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return (of_one if args[0].dim() == dimensions else of_several)(mode, func, args, kwargs)

    return rule


def volumes_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A gradient that is read as the input should lie."""
    result = mode.run(func, *args, **kwargs)
    gradient, given = args[:2]
    mode.memory.pass_through(copies_into(suggest_memory_format(given), gradient))
    return result


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
