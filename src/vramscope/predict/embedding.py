"""Embeddings on CUDA: copies of indices, and the scratch of their gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.gpus import Gpu
from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten
_UNSORTED_UP_TO = 3072
_ROWS_PER_THREAD = 10
_COUNTER_BYTES = 8
_CUB_BYTES = 1
"""The least that CUB asks for as temporary storage; how much it is beyond that, its kernels' occupancy decides."""


def embedding_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for embeddings, by operator."""
    return {aten.embedding.default: embedding, aten.embedding_dense_backward.default: embedding_backward(gpu)}


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

    Up to 3072 indices a kernel works without sorting. Beyond, there are sorted and original indices and, while they are
    sorted, their range; then where the rows of each weight begin, how they are divided into partial sums, and these
    sums, in float32 where the gradient has 16 bits.

    Source: ``embedding_dense_backward_cuda`` in aten/src/ATen/native/cuda/Embedding.cu, and
    ``embedding_backward_cuda_kernel`` in EmbeddingBackwardKernel.cu.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        gradient, indices, weights = args[:3]
        held = [_contiguous(mode, part) for part in (indices, gradient) if not part.is_contiguous()]
        count = indices.numel()
        if count <= _UNSORTED_UP_TO:
            return mode.run(func, *args, **kwargs)
        held += [_indices(mode, indices) for _ in range(2)]
        mode.memory.pass_through((count * indices.element_size(), _CUB_BYTES))
        result = mode.run(func, *args, **kwargs)
        held += [_indices(mode, indices)]
        mode.memory.pass_through((_COUNTER_BYTES, count * indices.element_size(), _CUB_BYTES))
        mode.memory.pass_through(_division(gradient, indices, weights, gpu))
        del held
        return result

    return rule


def _division(gradient: Tensor, indices: Tensor, weights: int, gpu: Gpu) -> tuple[int, ...]:
    """Bytes of what says how rows are divided into partial sums, and of these sums."""
    count, index_bytes, width = indices.numel(), indices.element_size(), gradient.shape[-1]
    sums, starts = partial_sums(count, weights), min(count, weights) * index_bytes
    wide = torch.promote_types(gradient.dtype, torch.float32)
    how = (_COUNTER_BYTES, starts, starts, _COUNTER_BYTES, sums * index_bytes)
    if not sums_in_place(count, weights, gpu):
        return (*how, sums * width * wide.itemsize)
    copy = (weights * width * wide.itemsize,) if wide != gradient.dtype else ()
    return (*how, sums * index_bytes, *copy)


def _contiguous(mode: VirtualMode, tensor: Tensor) -> Any:
    return mode.run(aten.clone.default, tensor, memory_format=torch.contiguous_format)


def _indices(mode: VirtualMode, like: Tensor) -> Any:
    return mode.run(aten.empty.memory_format, [like.numel()], dtype=like.dtype, device=like.device)
