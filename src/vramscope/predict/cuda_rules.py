"""Where an operator on CUDA allocates otherwise than on the CPU: one rule per operator family.

Each rule is derived from PyTorch's own source, which it names; none holds a figure taken from a recording. Operators
without a rule allocate as their fake results say.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.attention_kernels import attention_rules
from vramscope.predict.cells import cell_rules
from vramscope.predict.convolutions import convolution_rules
from vramscope.predict.cub import scan_bytes
from vramscope.predict.cuda_kernels import composite_rules
from vramscope.predict.embedding import embedding_rules
from vramscope.predict.fused_transformer import fused_rules
from vramscope.predict.gpus import Gpu
from vramscope.predict.in_order import in_order_copies, in_order_rules
from vramscope.predict.losses import cuda_loss_rules
from vramscope.predict.norms import norm_rules
from vramscope.predict.reduction_rules import reduction_rules
from vramscope.predict.sorting import sorting_rules
from vramscope.recorders.cuda.workspaces import LT_SHARES_SINCE, LT_WORKSPACE_BYTES
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.artefacts import ARTEFACTS, fills_its_own, in_place
from vramscope.recorders.virtual.formulas import in_engine
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument
from vramscope.recorders.virtual.operators.cpu_rules import in_order
from vramscope.recorders.virtual.operators.im2col import im2col_rules
from vramscope.recorders.virtual.operators.python_kernels import python_kernels
from vramscope.recorders.virtual.operators.shortcuts import with_shortcuts
from vramscope.recorders.virtual.substitutes import SUBSTITUTES

aten = torch.ops.aten
INDEX_BYTES = 8
_MATRIX_PRODUCTS = (
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.addmv.default,
    aten.mv.default,
)


def cuda_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU, by operator."""
    products = CublasWorkspaces(gpu.cublas_workspace_bytes)
    return with_shortcuts(
        {
            **ARTEFACTS,
            **SUBSTITUTES,
            **python_kernels(),
            **composite_rules(gpu),
            **dict.fromkeys(_MATRIX_PRODUCTS, products.rule),
            **dict.fromkeys(_in_place_foreach(), nothing_new),
            # native_dropout_cuda, aten/src/ATen/native/cuda/Dropout.cu: the mask before the result
            aten.native_dropout.default: in_order(1, 0),
            **reduction_rules(gpu),
            **cuda_loss_rules(gpu),
            **norm_rules(gpu),
            **dict.fromkeys((aten._softmax.default, aten._log_softmax.default), softmax),
            aten._safe_softmax.default: safe_softmax,
            **dict.fromkeys((aten.cumsum.default, aten.cumprod.default, aten.logcumsumexp.default), cumulative),
            aten._softmax_backward_data.default: softmax_backward,
            **in_order_rules(),
            aten.index_put.default: index_put,
            aten._index_put_impl_.default: index_put,
            **embedding_rules(gpu),
            **sorting_rules(gpu),
            **cell_rules(),
            **convolution_rules(),
            **im2col_rules(),
            **attention_rules(gpu),
            **fused_rules(gpu),
            **dict.fromkeys((aten.masked_scatter.default, aten.masked_scatter_.default), masked_scatter),
            aten._fft_c2r.default: real_waves,
            aten.lift_fresh.default: on_the_host,
        }
    )


def _in_place_foreach() -> list[OpOverload]:
    names = (name.removeprefix("aten::") for name in torch._C._dispatch_get_all_op_names())
    packets = {name.partition(".")[0] for name in names if name.startswith("_foreach_")}
    found = [getattr(aten, packet) for packet in sorted(packets) if packet.endswith("_")]
    return [getattr(packet, overload) for packet in found for overload in packet.overloads()]


def nothing_new(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """In-place operators over lists of tensors allocate nothing: they need not even be described.

    Source: ``multi_tensor_apply`` in aten/src/ATen/native/cuda/MultiTensorApply.cuh passes addresses as kernel
    arguments. Step counters, tensors of no dimension, are on the host, and their values are read.
    """
    if any(tensor.dim() == 0 for tensor in args[0]):
        return mode.run(func, *args, **kwargs)
    return None


class CublasWorkspaces:
    """One workspace per thread's handle, taken at the thread's first matrix product and never given back.

    Source: ``getCurrentCUDABlasHandle`` and ``getWorkspaceMap`` in aten/src/ATen/cuda/CublasHandlePool.cpp. Forward
    runs on the program's thread, backward on one of the engine's. Before torch 2.12 cuBLASLt, which adds the bias of a
    linear layer, takes 1 MiB of its own besides (``getCUDABlasLtWorkspace`` there).
    """

    def __init__(self, size: int, lt_size: int | None = None) -> None:
        self._size = size
        self._lt_size = lt_size if lt_size is not None else LT_WORKSPACE_BYTES if TORCH < LT_SHARES_SINCE else 0
        self._threads: set[bool] = set()
        self._lt_threads: set[bool] = set()

    def rule(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A matrix product: the result first, then the handle that computes it."""
        result = mode.run(func, *args, **kwargs)
        copies = [size for matrix in args[-2:] for size in blas_copy(matrix)]
        if in_engine() not in self._threads:
            self._threads.add(in_engine())
            mode.memory.library_workspace(self._size)
        if self._lt_size and in_engine() not in self._lt_threads and func is aten.addmm.default and args[0].dim() == 1:
            self._lt_threads.add(in_engine())
            mode.memory.library_workspace(self._lt_size)
        mode.memory.pass_through(copies)
        return result


def blas_copy(matrix: Tensor) -> tuple[int, ...]:
    """Bytes of the copy that cuBLAS needs of a matrix, or a batch, if neither its rows nor its columns are dense.

    Source: ``prepare_matrix_for_cublas`` in aten/src/ATen/native/cuda/Blas.cpp. The gradient of a sum is such a
    matrix: one number that is repeated.
    """
    if matrix.dim() < 2 or matrix.is_contiguous():
        return ()
    (rows, columns), (down, across) = matrix.shape[-2:], matrix.stride()[-2:]
    dense = (down == 1 and across >= max(1, rows)) or (across == 1 and down >= max(1, columns))
    return () if dense else (matrix.numel() * matrix.element_size(),)


def on_the_host(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A tensor made from Python's numbers lies in host memory, as an optimizer's step counters do.

    Source: ``_get_scalar_dtype`` and ``torch.tensor(0.0)`` in torch/optim/adam.py and its like.
    """
    result = mode.describe(func, *args, **kwargs)
    mode.memory.ignore(result)
    return result


def softmax(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A float32 result straight from 16-bit numbers, which fake tensors know for float16 alone; an input in order.

    Source: ``host_softmax`` in aten/src/ATen/native/cuda/SoftMax.cu, ``half_to_float``.
    """
    given = args[0]
    if args[2]:
        result = mode.run(aten.empty_like.default, given, dtype=torch.float32, memory_format=torch.contiguous_format)
    else:
        result = mode.run(func, *args, **kwargs)
    mode.memory.pass_through(in_order_copies(given))
    return result


def safe_softmax(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A softmax, and scratch while rows that are masked as a whole become zeros in place.

    Source: ``_safe_softmax`` in aten/src/ATen/native/transformers/attention.cpp: which elements are masked, which rows,
    and the zero.
    """
    given, dim = args[:2]
    dtype = kwargs.get("dtype") or given.dtype
    result = mode.run(aten.empty_like.default, given, dtype=dtype, memory_format=torch.contiguous_format)
    mode.memory.pass_through(in_order_copies(given))
    elements = given.numel()
    mode.memory.pass_through((elements, elements // max(given.shape[dim], 1), result.element_size()))
    return result


def cumulative(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Cumulative sums and products: the result, the input in its type and in order, CUB's storage for one row alone.

    Source: ``impl_func_cum_ops`` in aten/src/ATen/native/ReduceOps.cpp, ``scan_dim`` in cuda/ScanUtils.cuh.
    """
    result = mode.run(func, *args, **kwargs)
    count, element_bytes = result.numel(), result.element_size()
    given = args[0]
    if result.dtype != given.dtype:
        given = mode.run(aten._to_copy.default, given, dtype=result.dtype)
    copy = in_order_copies(given)
    alone = count and result.dim() and result.shape[args[1]] == count
    mode.memory.pass_through((*copy, *((scan_bytes(count, element_bytes),) if alone else ())))
    return result


def softmax_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradient of a softmax's input, and the product of gradient and result on the way, which is read in order.

    Source: ``softmax_backward_cuda_out`` and ``host_softmax_backward`` in aten/src/ATen/native/cuda/SoftMax.cu.
    """
    result = mode.run(func, *args, **kwargs)
    gradient, output = args[:2]
    product = mode.run(aten.mul.Tensor, gradient, output)
    mode.memory.pass_through(in_order_copies(product, output))
    del product
    return result


def masked_scatter(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """How many numbers are chosen before each, int64, with CUB's storage to count them; mask and source in order.

    A mask of tokens that is expanded to the width of their embeddings is copied.

    Source: ``masked_scatter__cuda`` in aten/src/ATen/native/cuda/IndexKernel.cpp, ``launch_masked_scatter_kernel`` in
    IndexKernel.cu.
    """
    result: Tensor = in_place(mode, func, args, kwargs) if func is aten.masked_scatter.default else args[0]
    mask, source = args[1:3]
    if result.numel():
        mask = mode.describe(aten.expand.default, mask, result.shape)
        held = [mode.scratch(size) for size in (result.numel() * INDEX_BYTES, *in_order_copies(mask))]
        mode.memory.pass_through((scan_bytes(result.numel(), INDEX_BYTES),))
        mode.memory.pass_through(in_order_copies(source))
        held.clear()
    return result


def real_waves(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A transform to real numbers overwrites its input, so it takes a copy.

    Source: ``_fft_c2r_cufft`` in aten/src/ATen/native/cuda/SpectralOps.cpp.
    """
    result = mode.run(func, *args, **kwargs)
    mode.memory.pass_through((args[0].numel() * args[0].element_size(),))
    return result


def index_put_scratch(indices: int) -> tuple[int, ...]:
    """Bytes of the blocks that ``index_put_(accumulate=True)`` takes for ``indices`` positions, in order.

    Source: ``index_put_with_sort_kernel`` and ``computeLinearIndex`` in aten/src/ATen/native/cuda/Indexing.cu and
    IndexingUtils.h: wrapped indices, linear indices, sorted, original, range; each int64. The sort of CUB asks for at
    least one byte (cub/device/dispatch/dispatch_radix_sort.cuh, single tile).
    """
    return (*(indices * INDEX_BYTES for _ in range(5)), 1)


def index_put(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Indexing's backward: in place, with buffers to sort by; the wrapped indices go when the linear ones are there."""
    accumulate = argument(args, kwargs, 3, "accumulate", False)
    in_place = func is aten._index_put_impl_.default or fills_its_own(mode, args[0])
    result = args[0] if in_place else mode.run(func, *args, **kwargs)
    if accumulate:
        positions = max((index.numel() for index in args[1] if isinstance(index, Tensor)), default=0)
        wrapped, *rest = index_put_scratch(positions)
        mode.memory.pass_through(rest, before=wrapped)
    return result
