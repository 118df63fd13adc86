"""Norms on CUDA: where their statistics are float32, and the scratch of their kernels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import OpOverload

from vramscope.predict.gpus import Gpu
from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten
FLOAT_BYTES = 4
_HALVES = (torch.bfloat16, torch.float16)


def norm_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for norms, by operator."""
    return {
        aten.native_layer_norm.default: float32_statistics,
        aten.native_batch_norm.default: float32_statistics,
        aten.native_layer_norm_backward.default: layer_norm_backward(gpu),
        aten.native_group_norm.default: group_norm,
        aten.native_group_norm_backward.default: group_norm_backward,
    }


def float32_statistics(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Mean and inverse deviation are float32 whatever the input is.

    Source: ``layer_norm_cuda`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu and ``batch_norm_cuda`` in
    aten/src/ATen/native/cuda/Normalization.cu: the type that the input's type is accumulated in. cuDNN's batch norm
    takes the weight's type, which it wants to be float32 (aten/src/ATen/native/cudnn/BatchNorm.cpp).
    """
    result, mean, deviation = mode.describe(func, *args, **kwargs)
    if mean.dtype in _HALVES:
        mean, deviation = (
            mode.describe(aten._to_copy.default, part, dtype=torch.float32) for part in (mean, deviation)
        )
    mode.memory.see((result, mean, deviation))
    return result, mean, deviation


def layer_norm_backward_scratch(rows: int, width: int, element_bytes: int, gpu: Gpu) -> tuple[int, ...]:
    """Bytes of the partial sums for weight and bias, where rows are many and few blocks of 32 columns share them.

    Source: ``LaunchGammaBetaBackwardCUDAKernel`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu: beyond 65,536 rows
    each block takes 32 rows, and at most 32,768 blocks are started.
    """
    if rows <= 64 * 1024 or width // 32 >= gpu.multiprocessors // 2:
        return ()
    blocks = min(32 * 1024 // -(-width // 32), -(-rows // 32))
    return (blocks * width * element_bytes,) * 2


def layer_norm_backward(gpu: Gpu) -> Rule:
    """The gradients of input, weight and bias, and partial sums on the way to the latter two."""

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = mode.run(func, *args, **kwargs)
        given, weight = args[1], args[5]
        if weight is not None:
            width = weight.numel()
            scratch = layer_norm_backward_scratch(given.numel() // width, width, weight.element_size(), gpu)
            mode.memory.pass_through(scratch)
        return results

    return rule


def group_norm_scratch(shape: tuple[int, int, int, int], affine: bool, half: bool) -> tuple[int, ...]:
    """Bytes of group norm's scratch; the shape is [batch, channels, places of a channel, groups].

    Source: ``GroupNormKernelImplInternal`` in aten/src/ATen/native/cuda/group_norm_kernel.cu: for 16-bit inputs the
    statistics in float32; with a weight or bias and more than one place, a factor and an addend for every channel.
    """
    batch, channels, places, groups = shape
    statistics = (batch * groups * FLOAT_BYTES,) * 2 if half else ()
    return (*statistics, *((batch * channels * FLOAT_BYTES,) * 2 if affine and places > 1 else ()))


def group_norm(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Group norm: result and statistics, then scratch."""
    results = mode.run(func, *args, **kwargs)
    given, weight, bias = args[:3]
    affine = weight is not None or bias is not None
    mode.memory.pass_through(group_norm_scratch(args[3:7], affine, given.dtype in _HALVES))
    return results


def group_norm_backward_scratch(shape: tuple[int, int, int, int], of_input: bool, weighted: bool) -> tuple[int, ...]:
    """Bytes of the scratch of group norm's backward; the shape is [batch, channels, places of a channel, groups].

    Source: ``GroupNormBackwardKernelImplInternal`` and ``GroupNorm1dBackward`` in
    aten/src/ATen/native/cuda/group_norm_kernel.cu: two sums for every channel unless it has one place; for the input's
    gradient two coefficients for every group and, where there is a weight, one for every channel.
    """
    batch, channels, places, groups = shape
    of_channel, of_group = batch * channels * FLOAT_BYTES, batch * groups * FLOAT_BYTES
    sums = (of_channel,) * 2 if places > 1 else ()
    coefficients = (of_group, of_group, *((of_channel,) if weighted and places > 1 else ()))
    return (*sums, *(coefficients if of_input else ()))


def group_norm_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, then scratch."""
    results = mode.run(func, *args, **kwargs)
    shape, mask = args[5:9], args[9]
    mode.memory.pass_through(group_norm_backward_scratch(shape, bool(mask[0]), args[4] is not None))
    return results
