"""Embeddings on CUDA: copies of indices, and the scratch of their gradients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.cub import radix_sort_bytes, scan_by_key_bytes, scan_bytes, unique_bytes
from vramscope.predict.gpus import Gpu
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument
from vramscope.recorders.virtual.operators.sparse import bags_backward

aten = torch.ops.aten
_UNSORTED_UP_TO = 3072
_ROWS_PER_THREAD = 10
_COUNTER_BYTES = 8
_MAXIMA = 2


def embedding_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for embeddings, by operator."""
    return {
        aten.embedding.default: embedding,
        aten.embedding_dense_backward.default: embedding_backward(gpu),
        **dict.fromkeys((aten._embedding_bag.default, aten._embedding_bag_forward_only.default), embedding_bag),
        aten._embedding_bag_backward.default: embedding_bag_backward(gpu),
    }


def embedding(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Rows of a table; indices of several dimensions are read as one, and copied where they lie apart.

    Source: ``embedding_symint`` in aten/src/ATen/native/Embedding.cpp.
    """
    indices = args[1]
    copy = None if indices.dim() <= 1 or indices.is_contiguous() else _contiguous(mode, indices)
    result = mode.run(func, *args, **kwargs)
    del copy
    return result


def partial_sums(indices: int, weights: int) -> int:
    """Into how many sums of at most ten rows the gradient is divided, at most: so many are made room for."""
    return indices // _ROWS_PER_THREAD + min(indices, weights)


def sums_in_place(indices: int, weights: int, gpu: Gpu) -> bool:
    """Whether partial sums are added up in the gradient itself: they are many for a table of few rows.

    By what torch 2.11 to 2.14 ask for on GPUs of 40 and 108 multiprocessors.
    """
    return weights < 4 * gpu.multiprocessors and partial_sums(indices, weights) > 4 * weights


def embedding_backward(gpu: Gpu) -> Rule:
    """The gradient of ``nn.Embedding``'s weight.

    Up to 3072 indices a kernel works without sorting, unless it matters how often each occurs. Beyond, there are sorted
    and original indices and, while they are sorted, their range; then where the rows of each weight begin, how they are
    divided into partial sums, and these sums, in float32 where the gradient has 16 bits.

    Source: ``embedding_dense_backward_cuda`` in aten/src/ATen/native/cuda/Embedding.cu, and
    ``embedding_backward_cuda_kernel`` in EmbeddingBackwardKernel.cu.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        gradient, indices, weights = args[:3]
        held = [_contiguous(mode, part) for part in (indices, gradient) if not part.is_contiguous()]
        count = indices.numel()
        by_frequency = bool(argument(args, kwargs, 4, "scale_grad_by_freq", False))
        if not count or (count <= _UNSORTED_UP_TO and not by_frequency):
            return mode.run(func, *args, **kwargs)
        result = _by_sorting(mode, func, args, kwargs, _Table(weights, gpu, by_frequency, bags=False))
        del held
        return result

    return rule


def embedding_bag(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Sizes of bags, the bag of every index, then the bags; the maximum's places only where maxima are taken.

    Source: ``_embedding_bag_cuda`` in aten/src/ATen/native/cuda/EmbeddingBag.cu.
    """
    results = list(mode.describe(func, *args, **kwargs))
    indices, offsets = args[1:3]
    if argument(args, kwargs, 4, "mode", 0) != _MAXIMA:
        results[3] = mode.describe(aten.new_empty.default, indices, [0])
    results[1] = mode.describe(aten.empty_like.default, indices, memory_format=torch.contiguous_format)
    results[2] = mode.describe(aten.empty_like.default, offsets)
    for place in (2, 1, 0, 3):
        mode.memory.see(results[place])
    return tuple(results)


def embedding_bag_backward(gpu: Gpu) -> Rule:
    """The gradient of a table whose rows were summed in bags: as `embedding_backward`, whatever the number of indices.

    Source: ``embedding_bag_backward_cuda_sum_avg`` in aten/src/ATen/native/cuda/EmbeddingBag.cu.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        gradient, indices, weights, by_frequency, kind, sparse = args[0], args[1], *args[6:10]
        if sparse:
            return bags_backward(mode, func, args, kwargs)
        if kind == _MAXIMA or not indices.numel():
            return mode.run(func, *args, **kwargs)
        held = [_contiguous(mode, gradient)] if not gradient.is_contiguous() else []
        result = _by_sorting(mode, func, args, kwargs, _Table(weights, gpu, bool(by_frequency), bags=True))
        del held
        return result

    return rule


@dataclass(frozen=True)
class _Table:
    """How the gradient of a table of ``weights`` rows is summed."""

    weights: int
    gpu: Gpu
    by_frequency: bool
    bags: bool


def _by_sorting(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], table: _Table
) -> Any:
    """The gradient of a table, between the sorted indices and the sums."""
    gradient, indices = args[:2]
    held = [_sorted(mode, indices, table.weights, table.gpu)]
    held += [_counts(mode, indices)] if table.by_frequency else []
    result = mode.run(func, *args, **kwargs)
    _sum_up(mode, gradient, indices, table)
    del held
    return result


def _sorted(mode: VirtualMode, indices: Tensor, weights: int, gpu: Gpu) -> Any:
    """Sorted and original indices, and while they are sorted, their range and CUB's storage.

    Since torch 2.13 only as many bits are looked at as the number of weights has.
    """
    made = [_indices(mode, indices) for _ in range(2)]
    bits = max(weights - 1, 1).bit_length() if TORCH >= (2, 13) else 8 * indices.element_size()
    scratch = radix_sort_bytes(indices.numel(), indices.element_size(), bits, gpu, indices.element_size())
    mode.memory.pass_through((indices.numel() * indices.element_size(), scratch))
    return made


def _counts(mode: VirtualMode, indices: Tensor) -> Any:
    """How often each index occurs, counted from either end."""
    made = _indices(mode, indices)
    for _ in range(2):
        mode.memory.pass_through((scan_by_key_bytes(indices.numel()),))
    return made


def _sum_up(mode: VirtualMode, gradient: Tensor, indices: Tensor, table: _Table) -> None:
    """Where the rows of each weight begin, how they are divided into partial sums, and these sums."""
    starts = _indices(mode, indices)
    segments = mode.scratch(_COUNTER_BYTES)
    count = indices.numel()
    mode.memory.pass_through((count * indices.element_size(), unique_bytes(count, table.gpu, indices.element_size())))
    division, sums = _division(gradient, indices, table)
    held = [mode.scratch(size) for size in division]
    mode.memory.pass_through((scan_bytes(min(count, table.weights), indices.element_size()),))
    mode.memory.pass_through(sums)
    del held[:], segments, starts


def _division(gradient: Tensor, indices: Tensor, table: _Table) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Bytes of what says how rows are divided into partial sums; then of their number, places, and these sums."""
    count, index_bytes, width = indices.numel(), indices.element_size(), gradient.shape[-1]
    sums, starts = partial_sums(count, table.weights), min(count, table.weights) * index_bytes
    wide = torch.promote_types(gradient.dtype, torch.float32)
    how = (_COUNTER_BYTES, sums * index_bytes)
    if table.bags or not sums_in_place(count, table.weights, table.gpu):
        return (starts, starts), (*how, sums * width * wide.itemsize)
    copy = (table.weights * width * wide.itemsize,) if wide != gradient.dtype else ()
    return (starts, starts), (*how, sums * index_bytes, *copy)


def _contiguous(mode: VirtualMode, tensor: Tensor) -> Any:
    return mode.run(aten.clone.default, tensor, memory_format=torch.contiguous_format)


def _indices(mode: VirtualMode, like: Tensor) -> Any:
    return mode.run(aten.empty.memory_format, [like.numel()], dtype=like.dtype, device=like.device)
