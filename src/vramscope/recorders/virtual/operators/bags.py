"""Bags of embeddings on the CPU: what tells which index is in which bag, which fakes make smaller or leave out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import VirtualMode, argument

aten = torch.ops.aten
_SUM, _MEAN, _MAX = 0, 1, 2
_SINGLE = (torch.float32, torch.float16, torch.bfloat16)


def embedding_bag(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The bags [bags, width], then the bag of every index, each bag's size, and the places of maxima [bags, width].

    Which bag an index belongs to is not asked where rows are only summed, in single precision and with no index left
    out; sizes and maxima have room for as many numbers as there are offsets, one more than bags where the last offset
    is an end.

    Source: ``_embedding_bag_cpu_impl``, ``make_bag_size`` and ``make_max_indices`` in
    aten/src/ATen/native/EmbeddingBag.cpp.
    """
    weight, indices, offsets = args[:3]
    kind, per_sample, has_end, left_out = (
        argument(args, kwargs, place, name, default)
        for place, name, default in (
            (4, "mode", _SUM),
            (6, "per_sample_weights", None),
            (7, "include_last_offset", False),
            (8, "padding_idx", -1),
        )
    )
    empty, bags = aten.new_empty.default, offsets.numel() - bool(has_end)
    index_bytes = offsets.element_size()
    result = mode.run(empty, weight, [bags, weight.shape[1]])
    is_fast = _is_fast(weight, per_sample) and left_out < 0
    places = mode.describe(empty, offsets, [0])
    if kind != _SUM or not is_fast:
        places = _bag_of_every_index(mode, indices, offsets, bags)
    sizes = mode.shrink(mode.run(empty, offsets, offsets.shape), [bags])
    if kind != _SUM or func is aten._embedding_bag.default:
        mode.memory.pass_through(((bags - 1) * index_bytes,))
        mode.memory.pass_through((index_bytes,))
    maxima = mode.run(empty, offsets, [bags])
    if kind == _MAX:
        maxima = mode.run(empty, offsets, [bags, weight.shape[1]])
    if kind == _MEAN:  # the sizes but at least one, and these in the result's type
        mode.memory.pass_through((bags * index_bytes, bags * index_bytes, bags * weight.element_size()))
    return result, places, sizes, maxima


def _is_fast(weight: Tensor, per_sample: Tensor | None) -> bool:
    """``is_fast_path`` there; rows that lie apart are summed one by one."""
    return weight.dtype in _SINGLE and weight.stride(1) == 1 and (per_sample is None or per_sample.stride(0) == 1)


def _bag_of_every_index(mode: VirtualMode, indices: Tensor, offsets: Tensor, bags: int) -> Tensor:
    """Ones where bags begin, one place more than there are indices, and their running sum (``make_offset2bag``)."""
    marks = mode.run(aten.new_empty.default, offsets, [indices.numel() + 1])
    mode.memory.pass_through((bags * offsets.element_size(),))
    mode.memory.pass_through((offsets.element_size(),))
    places = mode.run(aten.empty_like.default, marks)
    del marks
    return mode.shrink(places, [indices.numel()])
