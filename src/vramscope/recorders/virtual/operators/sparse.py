"""Sparse tensors, which fake ones make empty: what most operators give has no elements, whatever went in.

How many elements a real one has depends on the data wherever an index may occur twice: the most there can be, then.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import VirtualMode

aten = torch.ops.aten
_SPARSE = 9
"""Where the backward of bags of embeddings is told that its result is sparse."""


def is_sparse(value: Any) -> bool:
    """Whether something is a sparse tensor of indices and values."""
    return isinstance(value, Tensor) and value.layout is torch.sparse_coo


def parts(mode: VirtualMode, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A sparse tensor's own indices, [dimensions, elements], and values, [elements, ...]."""
    return mode.describe(aten._indices.default, tensor), mode.describe(aten._values.default, tensor)


def made_of(
    mode: VirtualMode,
    like: Tensor,
    indices: Tensor,
    values: Tensor,
    is_coalesced: bool,
    shape: Sequence[int] | None = None,
) -> Any:
    """A sparse tensor of these indices and values, of the shape of another where none is given."""
    return mode.describe(
        aten._sparse_coo_tensor_with_dims_and_tensors.default,
        like.sparse_dim(),
        like.dense_dim(),
        like.shape if shape is None else shape,
        indices,
        values,
        dtype=values.dtype,
        layout=torch.sparse_coo,
        device=like.device,
        is_coalesced=is_coalesced,
    )


def copied(mode: VirtualMode, tensor: Tensor) -> Any:
    """A copy: indices and values (``clone_sparse`` in aten/src/ATen/native/sparse/SparseTensor.cpp)."""
    indices, values = (mode.run(aten.clone.default, part) for part in parts(mode, tensor))
    return made_of(mode, tensor, indices, values, tensor.is_coalesced())


def added(mode: VirtualMode, first: Tensor, second: Tensor) -> Any:
    """The sum of two: the elements of both (``add_out_sparse_contiguous`` in native/sparse/SparseTensorMath.cpp)."""
    pairs = zip(parts(mode, first), parts(mode, second), strict=True)
    indices, values = (mode.run(aten.cat.default, pair, dim) for pair, dim in zip(pairs, (1, 0), strict=True))
    return made_of(mode, first, indices, values, is_coalesced=False)


def coalesce(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Indices and values with room for all, of which fewer are used where indices occur twice.

    Source: ``_coalesce_sparse_cpu`` in aten/src/ATen/native/sparse/SparseTensor.cpp.
    """
    mode.note("sparse tensors: no index is taken to occur twice, the most there can be")
    given = args[0]
    indices, values = (mode.run(aten.empty_like.default, part) for part in parts(mode, given))
    most = math.prod(given.shape[: given.sparse_dim()])
    indices = mode.describe(aten.slice.Tensor, indices, 1, 0, most)
    values = mode.describe(aten.slice.Tensor, values, 0, 0, most)
    return made_of(mode, given, indices, values, is_coalesced=True)


def added_in_place(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A sparse tensor to which another is added has the elements of both, which a fake one cannot take up."""
    if is_sparse(args[0]):
        mode.note("sparse tensors that are added up in place do not grow: a lower bound")
    return mode.run(func, *args, **kwargs)


def sparse_mask(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What of any tensor stands where a sparse one has elements (``sparse_mask`` in SparseTensor.cpp)."""
    given, mask = args
    if not is_sparse(mask):
        return mode.run(func, *args, **kwargs)
    own_indices, own_values = parts(mode, mask)
    indices = mode.run(aten.clone.default, own_indices)
    values = mode.run(aten.empty_like.default, own_values, dtype=given.dtype)
    return made_of(mode, mask, indices, values, mask.is_coalesced())


def turned(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A sparse matrix turned round: values and indices of its own, and a row of indices while two rows change places.

    A dimension that changes places with itself leaves a copy.

    Source: ``transpose`` and ``sparse_transpose_`` in aten/src/ATen/native/TensorShape.cpp.
    """
    given = args[0]
    if not is_sparse(given) or given.sparse_dim() != 2:
        return mode.run(func, *args, **kwargs)
    indices, values = parts(mode, given)
    values, indices = mode.run(aten.clone.default, values), mode.run(aten.clone.default, indices)
    if args[1:] and args[1] % 2 == args[2] % 2:
        return made_of(mode, given, indices, values, given.is_coalesced())
    mode.memory.pass_through((indices.shape[1] * indices.element_size(),))
    return made_of(mode, given, indices, values, is_coalesced=False, shape=given.shape[::-1])


def bags_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The sparse gradient of rows that were summed in bags, which is made of other operators.

    Source: ``_embedding_bag_backward`` in aten/src/ATen/native/EmbeddingBag.cpp: where forward has not kept which bag
    every index belongs to, it is found once more.
    """
    if not args[_SPARSE]:
        return mode.run(func, *args, **kwargs)
    gradient, indices, offsets, bags, bag_size, _, *rest = args
    if not bags.numel():
        room = mode.run(aten.new_zeros.default, indices, [indices.numel() + 1])
        bags = mode.describe(aten.slice.Tensor, room, 0, 0, indices.numel())
    weights, by_frequency, kind, _, per_sample, *padding = rest
    with mode:
        return aten._embedding_bag_sparse_backward.default(
            gradient, indices, offsets, bags, bag_size, weights, by_frequency, kind, per_sample, *padding
        )
