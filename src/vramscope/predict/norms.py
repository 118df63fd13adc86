"""Norms on CUDA: where their statistics are float32, and the scratch of their kernels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from vramscope.predict.gpus import Gpu
from vramscope.predict.reductions import power_of_two
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, VirtualMode
from vramscope.recorders.virtual.operators.norms import Scratch, layer_norm, layer_norm_backward, wanted

aten = torch.ops.aten
FLOAT_BYTES = 4
_THREADS, _WARP, _ROWS_OF_A_THREAD = 512, 32, 16
_FEWEST_BLOCKS, _MOST_BLOCKS = 8, 128
_HALVES = (torch.bfloat16, torch.float16)


def norm_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for norms, by operator."""
    return {
        aten.native_layer_norm.default: layer_norm(float32_statistics),
        aten.native_batch_norm.default: batch_norm,
        aten.native_batch_norm_backward.default: batch_norm_backward,
        aten.native_layer_norm_backward.default: layer_norm_backward(_partial_sums(gpu)),
        aten.native_group_norm.default: group_norm,
        aten.native_group_norm_backward.default: group_norm_backward,
    }


def float32_statistics(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Mean and inverse deviation are float32 whatever the input is.

    Source: ``layer_norm_cuda`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu: the type that the input's type is
    accumulated in.
    """
    results = _in_float32(mode, mode.describe(func, *args, **kwargs))
    mode.memory.see(results)
    return results


def _in_float32(mode: VirtualMode, results: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    result, *statistics = results
    if statistics[0].dtype in _HALVES:
        statistics = [mode.describe(aten._to_copy.default, part, dtype=torch.float32) for part in statistics]
    return result, *statistics


def is_native(given: Tensor, weight: Tensor | None, bias: Tensor | None, running: Tensor | None, trains: bool) -> bool:
    """Whether PyTorch's own kernels normalise a batch, not cuDNN's.

    Source: ``_select_batch_norm_backend`` in aten/src/ATen/native/Normalization.cpp.
    """
    if weight is None or bias is None or given.dim() < 3:
        return True
    halves = given.dtype == torch.bfloat16 or (given.dtype == torch.float16 and weight.dtype != torch.float32)
    return halves or (running is None and not trains) or not torch.backends.cudnn.enabled


def batch_norm(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Batch norm: result and statistics in float32, which PyTorch's own kernels make in evaluation too.

    Source: ``batch_norm_cuda`` in aten/src/ATen/native/cuda/Normalization.cu. cuDNN's batch norm takes the weight's
    type, which it wants to be float32 (aten/src/ATen/native/cudnn/BatchNorm.cpp).
    """
    given, weight, bias, running, _, trains = args[:6]
    results = _in_float32(mode, mode.describe(func, *args, **kwargs))
    native = is_native(given, weight, bias, running, trains)
    if native and not trains:
        wide = torch.promote_types(given.dtype, torch.float32)
        statistics = (mode.describe(aten.new_empty.default, given, given.shape[1:2], dtype=wide) for _ in range(2))
        results = results[0], *statistics
    mode.memory.see(results)
    if native and trains and _channels_last(given):
        mode.memory.pass_through(_shared_statistics(given, 4))
    return results


def batch_norm_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, by cuDNN where that has normalised a batch in training.

    Source: ``cudnn_batch_norm`` in tools/autograd/derivatives.yaml.
    """
    gradient, given, weight, running = args[:4]
    mask: tuple[bool, bool, bool] = tuple(args[9])
    if is_native(given, weight, weight, running, args[7]) or not args[7]:
        return _native_gradients(mode, (gradient, given), weight, bool(args[6].numel()), args[7], mask)
    layout = suggest_memory_format(given)
    held = mode.copied(gradient, layout)
    of_input, of_weight, of_bias = (mode.like(given, layout), *(mode.like(weight) for _ in range(2)))
    del held
    return wanted((of_input, of_weight, of_bias), mask)


def _native_gradients(
    mode: VirtualMode,
    tensors: tuple[Tensor, Tensor],
    weight: Tensor | None,
    has_deviation: bool,
    trains: bool,
    mask: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """By one kernel for all three where channels are apart; else two sums for each channel come first.

    A kernel that sums over channels which lie together in both tensors makes the gradients of weight and bias though
    nobody wants them. The gradient of the input lies in order in evaluation; a weight of 1 stands for none where the
    two tensors lie differently.

    Source: ``batch_norm_backward_cuda``, ``batch_norm_backward_reduce_cuda`` and the kernels for elements in
    aten/src/ATen/native/cuda/Normalization.cu, and the templates for channels last in Normalization.cuh.
    """
    gradient, given = tensors
    wide = torch.promote_types(given.dtype, torch.float32)
    reduces = trains or mask[1] or mask[2]
    if reduces and mask[0] and not _channels_last(given):
        return mode.like(given, suggest_memory_format(given)), *_of_parameters(mode, given, weight, mask[1:])
    both = reduces and _channels_last(given) and _channels_last(gradient)
    of_channel = (not has_deviation) + 2 * (reduces and (mask[0] or both))
    held = [mode.run(aten.new_empty.default, given, given.shape[1:2], dtype=wide) for _ in range(of_channel)]
    made = (weight is not None,) * 2 if both else mask[1:]
    of_parameters = _of_parameters(mode, given, weight, made)
    mode.memory.pass_through(_shared_statistics(given, 2) if both else ())
    of_input = None
    if mask[0]:
        if trains and weight is None and not (both and _is_image(given)):
            held.append(mode.run(aten.new_empty.default, given, (), dtype=wide))
        of_input = mode.like(given, suggest_memory_format(given) if trains else torch.contiguous_format)
    held.clear()
    return wanted((of_input, *of_parameters), mask)


def _of_parameters(
    mode: VirtualMode, given: Tensor, weight: Tensor | None, mask: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of weight and bias, of those that are made."""
    dtype = torch.promote_types(given.dtype, torch.float32) if weight is None else weight.dtype
    shape = given.shape[1:2]
    return tuple(mode.run(aten.new_empty.default, given, shape, dtype=dtype) if made else None for made in mask)


def _channels_last(given: Tensor) -> bool:
    return given.dim() > 1 and given.stride(1) == 1


def _is_image(given: Tensor) -> bool:
    """Whether the kernels for elements know this layout of channels that lie together: not of volumes."""
    return given.is_contiguous() or given.is_contiguous(memory_format=torch.channels_last)


def _shared_statistics(given: Tensor, numbers: int) -> tuple[int, ...]:
    """Bytes of what thread blocks tell each other where several see one channel, ``numbers`` each; and semaphores.

    Source: ``flexible_launch_configs`` in aten/src/ATen/native/cuda/Normalization.cuh.
    """
    channels = given.shape[1]
    rows = given.numel() // max(channels, 1)
    high = power_of_two(-(-rows // _ROWS_OF_A_THREAD), _THREADS // power_of_two(channels, _WARP))
    wide = power_of_two(channels, _THREADS // high)
    blocks = min(-(-rows // (high * _ROWS_OF_A_THREAD)), _MOST_BLOCKS)
    number_bytes = torch.promote_types(given.dtype, torch.float32).itemsize
    return (numbers * channels * blocks * number_bytes, -(-channels // wide) * 4) if blocks >= _FEWEST_BLOCKS else ()


def layer_norm_backward_scratch(rows: int, width: int, element_bytes: int, gpu: Gpu) -> tuple[int, ...]:
    """Bytes of the partial sums for weight and bias, where rows are many and few blocks of 32 columns share them.

    Source: ``LaunchGammaBetaBackwardCUDAKernel`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu: beyond 65,536 rows
    each block takes 32 rows, and at most 32,768 blocks are started.
    """
    if rows <= 64 * 1024 or width // 32 >= gpu.multiprocessors // 2:
        return ()
    blocks = min(32 * 1024 // -(-width // 32), -(-rows // 32))
    return (blocks * width * element_bytes,) * 2


def _partial_sums(gpu: Gpu) -> Scratch:
    """Partial sums on the way to the gradients of weight and bias, which are added up one after the other."""

    def scratch(mode: VirtualMode, given: Tensor, weight: Tensor | None) -> None:
        if weight is None:
            return
        width = weight.numel()
        sizes = layer_norm_backward_scratch(given.numel() // width, width, weight.element_size(), gpu)
        rows = [size // (width * weight.element_size()) for size in sizes]
        parts = [mode.run(aten.new_empty.default, weight, [count, width]) for count in rows]
        for part in parts:
            mode.run_rule(aten.sum.dim_IntList, part, [0])

    return scratch


def group_norm_scratch(shape: tuple[int, int, int, int], affine: bool, dtype: torch.dtype) -> tuple[int, ...]:
    """Bytes of group norm's scratch; the shape is [batch, channels, places of a channel, groups].

    Source: ``GroupNormKernelImplInternal`` in aten/src/ATen/native/cuda/group_norm_kernel.cu: for 16-bit inputs the
    statistics in float32; with a weight or bias and more than one place, a factor and an addend for every channel.
    """
    batch, channels, places, groups = shape
    wide_bytes = torch.promote_types(dtype, torch.float32).itemsize
    statistics = (batch * groups * wide_bytes,) * 2 if dtype in _HALVES else ()
    return (*statistics, *((batch * channels * wide_bytes,) * 2 if affine and places > 1 else ()))


def group_norm(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Group norm: result and statistics, the copy of an input that does not lie in order, then scratch."""
    results = mode.run(func, *args, **kwargs)
    given, weight, bias = args[:3]
    affine = weight is not None or bias is not None
    held = mode.copied(given)
    mode.memory.pass_through(group_norm_scratch(args[3:7], affine, given.dtype))
    del held
    return results


def group_norm_backward_scratch(
    shape: tuple[int, int, int, int], of_input: bool, weighted: bool, dtype: torch.dtype
) -> tuple[int, ...]:
    """Bytes of the scratch of group norm's backward; the shape is [batch, channels, places of a channel, groups].

    Source: ``GroupNormBackwardKernelImplInternal`` and ``GroupNorm1dBackward`` in
    aten/src/ATen/native/cuda/group_norm_kernel.cu: two sums for every channel, since torch 2.14
    unless it has one place; for the input's gradient two coefficients for every group and, where there is a weight, one
    for every channel.
    """
    wide_bytes = torch.promote_types(dtype, torch.float32).itemsize
    batch, channels, places, groups = shape
    of_channel, of_group = batch * channels * wide_bytes, batch * groups * wide_bytes
    sums = (of_channel,) * 2 if places > 1 or TORCH < (2, 14) else ()
    coefficients = (of_group, of_group, *((of_channel,) if weighted and places > 1 else ()))
    return (*sums, *(coefficients if of_input else ()))


def group_norm_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Copies of gradient and input that do not lie in order, the gradients of input, weight and bias, then scratch."""
    held = [mode.copied(one) for one in args[:2]]
    results = mode.run(func, *args, **kwargs)
    shape, mask = args[5:9], args[9]
    mode.memory.pass_through(group_norm_backward_scratch(shape, bool(mask[0]), args[4] is not None, args[1].dtype))
    held.clear()
    return results
