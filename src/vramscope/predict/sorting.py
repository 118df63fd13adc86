"""Sorts and selections of the largest on CUDA."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.cub import radix_sort_bytes, row_sort_bytes, scan_bytes, together
from vramscope.predict.gpus import Gpu
from vramscope.predict.in_order import in_order_copies
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument

aten = torch.ops.aten
_INDEX_BYTES = 8
_DIGITS = 256
_SMALL = 4096
_LARGE, _FEW = 1_000_000, 128


def sorting_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for sorts and selections, by operator."""
    return {
        **dict.fromkeys((aten.sort.default, aten.sort.stable), _Sort(gpu)),
        aten.topk.default: _TopK(gpu),
    }


class _Sort:
    """Values and indices, and what the way of sorting takes that length and number of rows decide.

    Source: ``sort_cuda_kernel`` in aten/src/ATen/native/cuda/Sort.cpp and ``launch_stable_sort_kernel`` in
    SortStable.cu: up to 4096 numbers in a row are sorted in place; a few long rows one after another; fewer than 128
    all at once and then by row; more by CUB's sort of segments.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def __call__(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operator by this rule."""
        values, indices = mode.run(func, *args, **kwargs)
        given: Tensor = args[0]
        if not given.dim() or not given.numel():
            return values, indices
        dim = argument(args, kwargs, 1, "dim", -1)
        length = given.shape[dim]
        if length <= _SMALL:
            mode.memory.pass_through((length * _INDEX_BYTES,))
            return values, indices
        apart = given.stride(dim) != 1
        held = [mode.run(aten.empty_like.default, part) for part in (given, values, indices) if apart]
        self._sort(mode, given.numel() // length, length, given.element_size())
        held.clear()
        return values, indices

    def _sort(self, mode: VirtualMode, rows: int, length: int, key_bytes: int) -> None:
        count, bits = rows * length, key_bytes * 8
        if rows == 1 or length >= _LARGE:
            positions = [mode.scratch(length * _INDEX_BYTES)]
            for _ in range(rows):
                mode.memory.pass_through((radix_sort_bytes(length, key_bytes, bits, self._gpu),))
        elif rows < _FEW:
            positions = [mode.scratch(count * _INDEX_BYTES) for _ in range(2)]
            mode.memory.pass_through((count * key_bytes, radix_sort_bytes(count, key_bytes, bits, self._gpu)))
            mode.memory.pass_through((row_sort_bytes(count, self._gpu),))
        else:
            positions = [mode.scratch(count * _INDEX_BYTES)]
            mode.memory.pass_through((together([count * key_bytes, count * _INDEX_BYTES]),))
        positions.clear()


class _TopK:
    """The largest of every row, and counts of digits where several thread blocks share a long row.

    That more than 4096 of a row are sorted afterwards, which takes as much as a sort of them, is not counted.

    Source: ``should_use_multiblock``, ``get_items_per_thread`` and ``launch`` of ``mbtopk`` in
    aten/src/ATen/native/cuda/TensorTopK.cu.
    """

    _THREADS, _BLOCKS_OF_A_PROCESSOR, _FEWEST, _MOST = 256, 6, 4, 64
    _FROM = ((20, 20_000), (40, 10_000), (80, 8_000), (200, 5_000), (800, 3_000), (4_000, 800))
    """Up to so many rows, how long they must be."""

    def __init__(self, gpu: Gpu) -> None:
        self._threads = gpu.multiprocessors * self._BLOCKS_OF_A_PROCESSOR * self._THREADS

    def __call__(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operator by this rule."""
        results = mode.run(func, *args, **kwargs)
        given: Tensor = args[0]
        if given.dim() and given.numel():
            in_order = [mode.scratch(size) for size in in_order_copies(given)]
            length = given.shape[argument(args, kwargs, 2, "dim", -1)]
            held = [mode.scratch(size) for size in self._scratch(given.numel() // length, length, given.element_size())]
            for _ in range(2 if held else 0):
                mode.memory.pass_through((scan_bytes(1),))
            held.clear()
            in_order.clear()
        return results

    def _scratch(self, rows: int, length: int, element_bytes: int) -> tuple[int, ...]:
        if length < next((least for most, least in self._FROM if rows <= most), 400):
            return ()
        items = max(self._FEWEST, min(-(-rows * length // self._threads), self._MOST))
        blocks = rows * -(-length // (items * self._THREADS))
        wide = 2 * rows * max(element_bytes, 4)
        fixed = (rows * element_bytes, rows * 8, wide, blocks * _DIGITS * 2, rows * _DIGITS * 4)
        return (*fixed, blocks * 4, blocks * 4)
