"""What CUDA runs instead of the CPU's choice, where that is decided above autograd: attention, dropout, autocast.

These operators are made of others, and which others depends on the device. Kernels written here take their place in
torch's dispatcher for the time of a prediction, so that they are found from C++, from Python and from within backward
alike.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from vramscope.predict.attention import run_attention
from vramscope.predict.autocast import CastCache, autocast_kernels
from vramscope.predict.gpus import Gpu
from vramscope.predict.norms import is_native
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, made_of_others
from vramscope.recorders.virtual.operators.losses import MEAN

aten = torch.ops.aten
Kernel = Callable[..., Any]
_HERE, _CUDA = "cpu", "cuda"


@contextmanager
def cuda_kernels(gpu: Gpu) -> Iterator[None]:
    """Let operators that are made of others be made as on this GPU, for tensors that lie on the CPU."""
    library = torch.library.Library("aten", "IMPL")
    cache = CastCache()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Warning only once for all operators"
            )  # that kernels are replaced
            for operator, kernel in composite_kernels(gpu).items():
                library.impl(operator, kernel, "AutogradCPU")
            for name, kernel in autocast_kernels(cache):
                library.impl(name, kernel, "AutocastCPU")
        with cache.emptied_with_torchs(), _autocast_as_on_cuda():
            yield
    finally:
        library._destroy()


@contextmanager
def _autocast_as_on_cuda() -> Iterator[None]:
    """A program that switches autocast on a GPU on or off, or asks for it, gets what stands for it here.

    Torch's own regions would be switched off for want of a GPU. A program that sets the GPU's autocast itself puts back
    what it was told, so it is set right at the end.
    """
    enabled, dtype, dtype_here = torch.is_autocast_enabled(_CUDA), *map(torch.get_autocast_dtype, (_CUDA, _HERE))
    is_enabled, of_type = torch.is_autocast_enabled, torch.get_autocast_dtype
    told = {
        "is_autocast_enabled": lambda device_type=_CUDA: is_enabled(_stands_for(device_type)),
        "get_autocast_dtype": lambda device_type: of_type(_stands_for(device_type)),
        "get_autocast_gpu_dtype": lambda: of_type(_HERE),
    }
    begin = torch.autocast.__init__

    def begin_here(region: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        begin(region, _stands_for(device_type), *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.autocast, "__init__", begin_here))
        stack.callback(torch.set_autocast_dtype, _HERE, dtype_here)
        torch.set_autocast_dtype(_HERE, dtype)
        stack.callback(torch.set_autocast_dtype, _CUDA, dtype)
        stack.callback(torch.set_autocast_enabled, _CUDA, enabled)
        for name, answer in told.items():
            stack.enter_context(mock.patch.object(torch, name, answer))
        yield


def _stands_for(device_type: str) -> str:
    return _HERE if device_type == _CUDA else device_type


def composite_kernels(gpu: Gpu) -> Mapping[OpOverload, Kernel]:
    """By operator, what stands for it while gradients are recorded; inference mode passes autograd by."""
    return {
        aten.dropout.default: dropout,
        aten.scaled_dot_product_attention.default: partial(run_attention, gpu),
        aten.rms_norm.default: rms_norm,
        aten.batch_norm.default: batch_norm,
        aten.group_norm.default: group_norm,
        aten.softmax.int: partial(_softmax, aten._softmax.default),
        aten.log_softmax.int: partial(_softmax, aten._log_softmax.default),
        aten.linear.default: linear,
        aten.lstm_cell.default: lstm_cell,
        aten.gru_cell.default: gru_cell,
        aten.one_hot.default: one_hot,
        **dict.fromkeys((aten.ctc_loss.IntList, aten.ctc_loss.Tensor), ctc_loss),
    }


def composite_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The same for inference mode, where these operators reach the dispatch mode whole."""
    return {operator: made_of_others(kernel) for operator, kernel in composite_kernels(gpu).items()}


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """``native_dropout`` keeps a bool mask (``is_fused_kernel_acceptable``, aten/src/ATen/native/Dropout.cpp)."""
    if not train or p == 0 or not input.numel():
        return input
    if p == 1:
        return input * torch.zeros((), dtype=input.dtype)
    result: Tensor = torch.native_dropout(input, p, True)[0]
    return result


class _RmsNorm(torch.autograd.Function):
    """One fused kernel each way: ``_fused_rms_norm`` has no fake of its own, only the many operators it stands for."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor | None, dimensions: int) -> Tensor:
        in_order = input.contiguous()  # noqa: F841 - a copy, if it is one, is there until the kernel has run
        result = torch.empty_like(input, memory_format=torch.contiguous_format)
        roots = [*input.shape[: input.dim() - dimensions], *[1] * dimensions]
        ctx.save_for_backward(input, weight, torch.empty(roots, dtype=torch.promote_types(input.dtype, torch.float32)))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        input, weight, _ = ctx.saved_tensors
        in_order = input.contiguous(), gradients[0].contiguous()  # noqa: F841 - as above
        return (
            torch.empty_like(input, memory_format=torch.contiguous_format),
            torch.empty_like(weight) if ctx.needs_input_grad[1] else None,
            None,
        )


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Any:
    """One fused kernel that keeps the inverse root alone, in float32 for 16-bit numbers.

    Source: ``rms_norm_symint`` in aten/src/ATen/native/layer_norm.cpp, ``_fused_rms_norm_cuda`` and its backward in
    cuda/layer_norm_kernel.cu.
    """
    return _RmsNorm.apply(input, weight, len(normalized_shape))


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    *others: Any,
) -> Any:
    """cuDNN normalises, and keeps for backward, an input in order or with channels together.

    Source: ``_batch_norm_impl_index`` in aten/src/ATen/native/Normalization.cpp.
    """
    if not is_native(input, weight, bias, running_mean, training):
        input = input.contiguous(memory_format=suggest_memory_format(input))
    return _as_torch_makes_it(
        aten.batch_norm.default, input, weight, bias, running_mean, running_var, training, *others
    )


def group_norm(input: Tensor, *others: Any) -> Any:
    """Normalises, and keeps for backward, an input in order; torch 2.14 keeps it as it lies.

    Source: ``group_norm`` in aten/src/ATen/native/group_norm.cpp, as torch's CUDA build runs it.
    """
    given = input if TORCH >= (2, 14) else input.contiguous()
    return _as_torch_makes_it(aten.group_norm.default, given, *others)


def _softmax(operator: OpOverload, input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """A float32 softmax of float16 numbers reads them as they are; bfloat16 is converted first.

    Source: ``softmax`` in aten/src/ATen/native/SoftMax.cpp.
    """
    if input.dtype == torch.float16 and dtype == torch.float32:
        return operator(input, dim, True)
    return operator(input if dtype is None else input.to(dtype), dim, False)


def _as_torch_makes_it(operator: OpOverload, *args: Any) -> Any:
    return operator._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """A bias is added in place to the product of an input that cannot be read as rows; fakes take another tensor.

    Source: ``linear`` in aten/src/ATen/native/Linear.cpp.
    """
    if bias is None or input.dim() == 2 or input.is_contiguous():
        return _as_torch_makes_it(aten.linear.default, input, weight, bias)
    return torch.matmul(input, weight.t()).add_(bias)


def lstm_cell(
    input: Tensor,
    hx: list[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Any:
    """Two products and one fused kernel. Source: ``LSTMCell`` in aten/src/ATen/native/RNN.cpp."""
    hidden, cell = hx
    products = torch.matmul(input, w_ih.t()), torch.matmul(hidden, w_hh.t())
    return aten._thnn_fused_lstm_cell(*products, cell, b_ih, b_hh)[:2]


def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Any:
    """Two products and one fused kernel. Source: ``GRUCell`` in aten/src/ATen/native/RNN.cpp."""
    products = torch.matmul(input, w_ih.t()), torch.matmul(hx, w_hh.t())
    return aten._thnn_fused_gru_cell(*products, hx, b_ih, b_hh)[0]


def one_hot(self: Tensor, num_classes: int = -1) -> Any:
    """Zeros, with ones put in: CUDA trusts the number of classes. Source: aten/src/ATen/native/Onehot.cpp."""
    if num_classes < 1 or not self.numel():
        return _as_torch_makes_it(aten.one_hot.default, self, num_classes)
    zeros = torch.zeros([*self.shape, num_classes], dtype=self.dtype, device=self.device)
    return zeros.scatter_(-1, self.unsqueeze(-1), 1)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Any:
    """Lengths, which are read on the host if they are tensors, become a tensor on the GPU.

    Source: ``ctc_loss`` in aten/src/ATen/native/LossCTC.cpp.
    """
    if log_probs.dim() == 2:  # a sequence alone
        alone = ctc_loss(
            log_probs.unsqueeze(1), targets, input_lengths, target_lengths, blank, reduction, zero_infinity
        )
        return alone if reduction else alone.squeeze(0)
    losses = aten._ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity)[0]
    if zero_infinity:
        losses = torch.where(losses == float("inf"), torch.zeros((), dtype=losses.dtype), losses)
    if reduction == MEAN:
        lengths = torch.empty(losses.shape, dtype=losses.dtype).clamp_min(1)
        return (losses / lengths).mean()
    return losses.sum() if reduction else losses
