"""What the kernels of attention allocate besides their results: flash and memory-efficient, forward and backward."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.gpus import Gpu
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument

aten = torch.ops.aten
FLOAT_BYTES = 4
_TILE_HEADER = 16
_GENERATOR_BYTES = 16
_MOST_SPLIT_HEADS = 200
_ENOUGH_HEADS = 256
_NARROW_KERNEL_ON = ((8, 6), (8, 9))
Shape = tuple[int, int, int, int]
"""Batch, heads, length and head size."""


def attention_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for attention, by operator."""
    return {
        aten._scaled_dot_product_flash_attention.default: flash_attention(gpu),
        aten._scaled_dot_product_flash_attention_backward.default: flash_attention_backward,
        aten._scaled_dot_product_efficient_attention.default: efficient_attention,
        aten._scaled_dot_product_efficient_attention_backward.default: efficient_attention_backward(gpu),
    }


def flash_splits(gpu: Gpu, query: Shape, keys: int) -> int:
    """Into how many parts the keys are divided where there are too few queries to keep the GPU busy.

    The fewest that come within 85 % of the best use of its multiprocessors, two thread blocks on each.

    Source: ``num_splits_heuristic`` and ``set_params_splitkv`` in
    aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, length, head_size = query
    width = 256 if head_size <= 64 else 128 if head_size <= 128 else 64
    blocks, places = -(-keys // width), 2 * gpu.multiprocessors
    tasks = batch * heads * -(-length // 64)
    if not tasks or not blocks or tasks >= 0.8 * places:
        return 1
    used = {}
    for splits in range(1, min(128, places, blocks) + 1):
        if splits == 1 or -(-blocks // splits) != -(-blocks // (splits - 1)):
            waves = tasks * splits / places
            used[splits] = waves / math.ceil(waves)
    return next(splits for splits, use in used.items() if use >= 0.85 * max(used.values()))


def flash_forward_scratch(gpu: Gpu, query: Shape, keys: int) -> tuple[int, ...]:
    """Bytes of flash attention's scratch where keys are divided: sums and results of every part, in float32."""
    splits = flash_splits(gpu, query, keys)
    batch, heads, length, head_size = query
    sums = splits * batch * heads * length * FLOAT_BYTES
    return () if splits == 1 else (sums, sums * -(-head_size // 32) * 32)


def flash_attention(gpu: Gpu) -> Rule:
    """Flash attention: scratch where keys are divided; where it drops out, the state of the generator is made twice.

    Source: ``mha_fwd`` in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        query, key = args[:2]
        dropout = _dropout(args, 3, kwargs) > 0
        results = mode.describe(func, *args, **kwargs)
        mode.memory.see(results[:2])
        scratch = () if dropout else flash_forward_scratch(gpu, query.shape, key.shape[2])
        parts = [mode.scratch(size) for size in scratch]
        mode.memory.see(results)
        if dropout:
            mode.memory.pass_through((_GENERATOR_BYTES,))
        parts.clear()
        return results

    return rule


def _dropout(args: tuple[Any, ...], place: int, kwargs: Mapping[str, Any]) -> float:
    return float(argument(args, kwargs, place, "dropout_p", 0.0))


def flash_backward_scratch(query: Shape, key: Shape, element_bytes: int) -> tuple[int, ...]:
    """Bytes of flash attention's backward scratch; shapes are [batch, heads, length, head size].

    Source: ``mha_bwd`` in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp: ``softmax_d`` [batch,
    heads, length up to 128] and ``dq_accum`` [batch, length up to 128, heads, head size up to 32], both float32; where
    heads of the query share one of the key, the gradients of key and value for every query head.
    """
    batch, heads, length, head_size = query
    rounded = -(-length // 128) * 128
    width = -(-head_size // 32) * 32
    expanded = (batch * heads * key[2] * head_size * element_bytes,) * 2 if heads != key[1] else ()
    return batch * heads * rounded * FLOAT_BYTES, batch * rounded * heads * width * FLOAT_BYTES, *expanded


def flash_attention_backward(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Flash attention's backward: the three gradients, and scratch while it runs."""
    gradient, query, key, _, output = args[:5]
    result = mode.run(func, *args, **kwargs)
    scratch = flash_backward_scratch(query.shape, key.shape, query.element_size())
    mode.memory.pass_through((*_copy(gradient), *_copy(output), *scratch))
    return result


def _copy(gradient: Tensor) -> tuple[int, ...]:
    """Attention's kernels want [batch, length, heads, head size] in this order, and copy what comes otherwise."""
    return () if gradient.transpose(1, 2).is_contiguous() else (gradient.numel() * gradient.element_size(),)


def efficient_attention(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Memory-efficient attention: seed and offset of the dropout, its last two results, lie in host memory.

    Since torch 2.14 they are two empty numbers on the GPU where nothing is dropped.

    Source: ``_efficient_attention_forward`` in aten/src/ATen/native/transformers/cuda/attention.cu.
    """
    *results, seed, offset = mode.describe(func, *args, **kwargs)
    if TORCH >= (2, 14) and _dropout(args, 5, kwargs) <= 0:
        mode.memory.see((seed, offset))
    else:
        mode.memory.ignore(seed)
        mode.memory.ignore(offset)
    mode.memory.see(results)
    return *results, seed, offset


@dataclass(frozen=True)
class _Kernel:
    """One kernel of memory-efficient attention's backward.

    It works in tiles of ``rows`` queries by ``columns`` of the head, and in blocks of ``keys`` keys, which it may share
    out among thread blocks. ``accumulates`` says whether the gradients of key and value are gathered in scratch too.
    """

    rows: int
    columns: int
    accumulates: bool = False
    splits: bool = True
    keys: int = 64

    def scratch_bytes(self, query: Shape, key: Shape, value_size: int) -> int:
        """Bytes of the workspace: tiles of the query's gradient with a header each, in float32."""
        batch, heads, length, head_size = query
        tiles = -(-length // self.rows) * -(-head_size // self.columns)
        own = tiles * (self.rows * self.columns * FLOAT_BYTES + _TILE_HEADER)
        if self.accumulates:
            widths = sum(-(-size // self.rows) * self.rows for size in (head_size, value_size))
            own += self._shares(batch * heads, key[2]) * self.keys * widths * FLOAT_BYTES
        return batch * heads * -(-own // _TILE_HEADER) * _TILE_HEADER

    def _shares(self, heads: int, length: int) -> int:
        """Among how many thread blocks the keys are shared out."""
        blocks = -(-length // self.keys)
        if not self.splits or (heads >= _ENOUGH_HEADS and blocks <= 2):
            return 1
        return max(min(blocks, _MOST_SPLIT_HEADS // heads), 1)


def _kernel(gpu: Gpu, head_size: int, half: bool, dropout: bool) -> _Kernel | None:
    """The first of torch's list that takes heads of this size, which is the larger of key's and value's; None has none.

    Source: cutlassB.h in aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernels.
    """
    if gpu.capability < (7, 0):
        return _Kernel(64, 64, accumulates=head_size > 64, splits=False) if half else None
    if head_size <= 64 or (not half and gpu.capability < (8, 0)):
        return _Kernel(64, 64)
    if not half or gpu.capability < (8, 0):
        return _Kernel(128, 64, accumulates=half and head_size > 128)
    if head_size > 128:
        return _Kernel(128, 64, accumulates=True)
    narrow = gpu.capability in _NARROW_KERNEL_ON and head_size <= 96 and not dropout
    return _Kernel(128, 64 if narrow else 128)


def efficient_backward_scratch(
    gpu: Gpu, query: Shape, key: Shape, value_size: int, element_bytes: int, dropout: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bytes of memory-efficient attention's backward scratch: what goes before the kernel's workspace, and what stays.

    In float32, ``delta`` is ``(grad_out * out).sum(-1)`` made contiguous by head: the product, its sums and their copy.
    What remains of them is there beside the kernel's own workspace. The 16-bit kernels compute it themselves.

    Source: ``_efficient_attention_backward`` in aten/src/ATen/native/transformers/cuda/attention_backward.cu;
    ``kKernelComputesDelta`` and ``workspace_size`` in mem_eff_attention/kernel_backward.h.
    """
    batch, heads, length, _ = query
    half = element_bytes < FLOAT_BYTES
    sums = batch * heads * length * FLOAT_BYTES
    kernel = _kernel(gpu, max(query[3], value_size), half, dropout)
    own = () if kernel is None else (kernel.scratch_bytes(query, key, value_size),)
    if half:
        return (), (sums, *own)
    copied = heads > 1 and length > 1
    return (sums * value_size, *((sums,) if copied else ())), (sums, *own)


def efficient_attention_backward(gpu: Gpu) -> Rule:
    """Memory-efficient attention's backward: the gradients, and scratch while it runs."""

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        gradient, query, key, value = args[:4]
        dropout = _dropout(args, 9, kwargs) > 0
        result = mode.run(func, *args, **kwargs)
        goes, stays = efficient_backward_scratch(
            gpu, query.shape, key.shape, value.shape[-1], query.element_size(), dropout
        )
        copy = [mode.scratch(size) for size in _copy(gradient)]
        first = [mode.scratch(size) for size in goes]
        delta = mode.scratch(stays[0])
        first.clear()
        mode.memory.pass_through(stays[1:])
        del delta, copy
        return result

    return rule
