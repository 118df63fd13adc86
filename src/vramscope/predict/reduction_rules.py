"""Operators on CUDA that reduce: sums, means, norms, variances, extremes, and what is made of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.gpus import Gpu
from vramscope.predict.reductions import Reduction, reduction_scratch
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, VirtualMode
from vramscope.recorders.virtual.operators.reductions import logsumexp

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_CHUNK = 64 * 1024
"""Elements that one thread block of a kernel over lists sees (``kChunkSize``)."""
Accumulator = Callable[[torch.dtype], int]


def reduction_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for reductions, by operator."""
    one, pair, several, bit = (partial(_Reduces, gpu, kind) for kind in (wide, indexed, welford, flag))
    return {
        **dict.fromkeys((aten.sum.default, aten.mean.default, aten.prod.default), one(cast=True)),
        **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim, aten.prod.dim_int), one(at=1, cast=True)),
        **dict.fromkeys((aten.amax.default, aten.amin.default), one(at=1)),
        **dict.fromkeys((aten.max.default, aten.min.default), one(in_order=True)),
        **dict.fromkeys((aten.argmax.default, aten.argmin.default), pair(at=1)),
        **dict.fromkeys((aten.max.dim, aten.min.dim), pair(at=1)),
        aten.linalg_vector_norm.default: one(at=2),
        **dict.fromkeys((aten.var.correction, aten.std.correction), several(at=1)),
        **dict.fromkeys((aten.var_mean.correction, aten.std_mean.correction), several(at=1)),
        **dict.fromkeys((aten.all.default, aten.any.default), bit()),
        **dict.fromkeys((aten.all.dim, aten.any.dim, aten.all.dims, aten.any.dims), bit(at=1)),
        aten.logsumexp.default: logsumexp,
        aten._foreach_norm.Scalar: foreach_norm,
    }


def wide(dtype: torch.dtype) -> int:
    """Bytes of a partial result in the type that numbers of this type are accumulated in."""
    return 4 if dtype in _HALVES else dtype.itemsize


def indexed(dtype: torch.dtype) -> int:
    """Bytes of a partial result that is a number and where it was, an int64 at a multiple of eight bytes.

    Source: ``argmax_kernel_cuda`` and ``max_values`` in aten/src/ATen/native/cuda/ReduceArgMaxKernel.cu and its like.
    """
    return 16


def welford(dtype: torch.dtype) -> int:
    """Bytes of a partial variance: mean, sum of squares and count twice.

    Source: ``WelfordData`` in aten/src/ATen/native/SharedReduceOps.h, as std_var_kernel in
    aten/src/ATen/native/cuda/ReduceMomentKernel.cu has it.
    """
    return 32 if dtype == torch.float64 else 16


def flag(dtype: torch.dtype) -> int:
    """Bytes of a partial result of ``all`` and ``any``; torch 2.11 keeps numbers as they are."""
    return 1 if TORCH >= (2, 12) else dtype.itemsize


class _Reduces:
    """The result, a copy of the input in the result's type where they differ, and partial results.

    Args:
        gpu: whose thread blocks share the inputs.
        accumulator: bytes of a partial result, by the type of what is reduced.
        at: where among the arguments the dimensions are; None where all are reduced.
        cast: whether the kernel wants its input in the result's type. Source: ``make_reduction_from_out_ty`` in
            aten/src/ATen/native/ReduceOpsUtils.h, which reads 16-bit numbers as they are.
        in_order: whether it wants a copy of what does not lie in order. Source: ``max`` in
            aten/src/ATen/native/ReduceAllOps.cpp.
    """

    def __init__(
        self,
        gpu: Gpu,
        accumulator: Accumulator,
        at: int | None = None,
        *,
        cast: bool = False,
        in_order: bool = False,
    ) -> None:
        self._gpu, self._accumulator, self._at, self._cast = gpu, accumulator, at, cast
        self._in_order = in_order

    def __call__(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operator by this rule."""
        results = mode.run(func, *args, **kwargs)
        given, result = args[0], results[0] if isinstance(results, tuple) else results
        dimensions = None if self._at is None or len(args) <= self._at else args[self._at]
        copies = self._cast and given.dtype != result.dtype
        if copies and not (given.dtype in _HALVES and result.dtype == torch.float32):
            given = mode.run(aten._to_copy.default, given, dtype=result.dtype)
        if self._in_order and not given.is_contiguous():
            given = mode.run(aten.clone.default, given, memory_format=torch.contiguous_format)
        self.partial_results(mode, given, dimensions, result.numel())
        return results

    def partial_results(self, mode: VirtualMode, given: Tensor, dimensions: Any, outputs: int) -> None:
        """What the reduction takes where several thread blocks share an output."""
        if not outputs or given.numel() <= outputs:
            return
        if isinstance(dimensions, int):
            dimensions = (dimensions,)
        chosen = {dimension % given.dim() for dimension in dimensions or range(given.dim())}
        reduction = Reduction(
            outputs,
            given.numel() // outputs,
            _fastest(given) in chosen,
            len(chosen) == given.dim(),
            self._accumulator(given.dtype),
        )
        mode.memory.pass_through(reduction_scratch(reduction, self._gpu))


def _fastest(given: Tensor) -> int:
    """The dimension whose numbers lie beside each other; the last one where some number is repeated."""
    strides = {place: stride for place, stride in enumerate(given.stride()) if given.shape[place] > 1}
    return given.dim() - 1 if not strides or 0 in strides.values() else min(strides, key=strides.__getitem__)


def sums_to_one(gpu: Gpu) -> Callable[[VirtualMode, Tensor], None]:
    """What the sum of all elements of a tensor takes besides its result."""
    reduces = _Reduces(gpu, wide)
    return lambda mode, elements: reduces.partial_results(mode, elements, None, 1)


def foreach_norm(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Norms of many tensors at once: partial results for as many chunks as the largest has, then one number for each.

    Source: ``foreach_tensor_norm_cuda`` in aten/src/ATen/native/cuda/ForeachReduceOp.cu.
    """
    tensors = args[0]
    chunks = max((-(-tensor.numel() // _CHUNK) for tensor in tensors), default=0)
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    scratch = mode.scratch(len(tensors) * chunks * wide.itemsize)
    results = mode.run(func, *args, **kwargs)
    del scratch
    return results
