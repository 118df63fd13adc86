"""Embeddings on CUDA: copies of indices, and the scratch of their gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten
FLOAT_BYTES = 4
_UNSORTED_UP_TO = 3072
_ROWS_PER_THREAD = 10
_ROWS_PER_WEIGHT = 40
_CUB_BYTES = 1
"""The least that CUB asks for as temporary storage; how much it is beyond that, its kernels' occupancy decides."""


def embedding_rules() -> Mapping[OpOverload, Rule]:
    """The rules for embeddings, by operator."""
    return {aten.embedding.default: embedding, aten.embedding_dense_backward.default: embedding_backward}


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


def embedding_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradient of ``nn.Embedding``'s weight.

    Up to 3072 indices a kernel works without sorting. Beyond, there are sorted and original indices and, while they are
    sorted, their range; then where the rows of each weight begin, how they are divided into partial sums, and these
    sums in float32. A table of very few rows needs none of the latter.

    Source: ``embedding_dense_backward_cuda`` in aten/src/ATen/native/cuda/Embedding.cu, and
    ``embedding_backward_cuda_kernel`` in EmbeddingBackwardKernel.cu.
    """
    gradient, indices, weights = args[:3]
    held = [_contiguous(mode, part) for part in (indices, gradient) if not part.is_contiguous()]
    count = indices.numel()
    if count <= _UNSORTED_UP_TO:
        return mode.run(func, *args, **kwargs)
    index_bytes, width = indices.element_size(), gradient.shape[-1]
    held += [_indices(mode, indices) for _ in range(2)]
    mode.memory.pass_through((count * index_bytes, _CUB_BYTES))
    result = mode.run(func, *args, **kwargs)
    held += [_indices(mode, indices)]
    mode.memory.pass_through((index_bytes, count * index_bytes, _CUB_BYTES))
    starts, sums = min(count, weights) * index_bytes, partial_sums(count, weights)
    needed = sums * (width * FLOAT_BYTES if count <= _ROWS_PER_WEIGHT * weights else index_bytes)
    mode.memory.pass_through((index_bytes, starts, starts, index_bytes, sums * index_bytes, needed))
    del held
    return result


def _contiguous(mode: VirtualMode, tensor: Tensor) -> Any:
    return mode.run(aten.clone.default, tensor, memory_format=torch.contiguous_format)


def _indices(mode: VirtualMode, like: Tensor) -> Any:
    return mode.run(aten.empty.memory_format, [like.numel()], dtype=like.dtype, device=like.device)
