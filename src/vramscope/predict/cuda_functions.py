"""What CUDA runs instead of the CPU's choice, where that is decided above autograd: attention, dropout, autocast."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vramscope.predict.gpus import Gpu

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_FLASH_HEAD_LIMIT = 256


class AttentionBackend(StrEnum):
    """How scaled dot product attention is computed."""

    FLASH = "flash"
    EFFICIENT = "memory_efficient"
    MATH = "math"


def attention_backend(
    gpu: Gpu, dtype: torch.dtype, head_size: int, has_mask: bool, same_heads: bool
) -> AttentionBackend:
    """The backend that torch prefers where several would do.

    Flash takes 16-bit tensors without a mask, heads of at most 256, on compute capability 8.0 or newer; the
    memory-efficient one takes 32-bit tensors and masks too, bfloat16 only from 8.0 on; neither takes float64.
    Source: ``can_use_flash_attention``, ``can_use_mem_efficient_attention`` and ``_fused_sdp_choice_cuda`` in
    aten/src/ATen/native/transformers/cuda/sdp_utils.cpp and attention.cu.
    """
    if dtype in _HALVES and gpu.has_flash_attention and not has_mask and head_size <= _FLASH_HEAD_LIMIT:
        return AttentionBackend.FLASH
    takes_dtype = dtype in (torch.float32, torch.float16) or (dtype == torch.bfloat16 and gpu.capability >= (8, 0))
    if takes_dtype and same_heads:
        return AttentionBackend.EFFICIENT
    return AttentionBackend.MATH


class CudaFunctions(TorchFunctionMode):
    """Runs CUDA's choices on fake tensors that lie on the CPU."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._replaced: Mapping[Any, Callable[..., Any]] = {
            functional.dropout: self._dropout,
            torch.dropout: self._torch_dropout,
            functional.scaled_dot_product_attention: self._attention,
            functional.rms_norm: _rms_norm,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or what stands for it."""
        kwargs = kwargs or {}
        replaced = self._replaced.get(func)
        if replaced is not None:
            return replaced(*args, **kwargs)
        if func in _FLOAT32_FUNCTIONS and torch.is_autocast_enabled("cpu"):
            return func(*map(_to_float32, args), **{key: _to_float32(value) for key, value in kwargs.items()})
        return func(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return self._torch_dropout(input, p, training)

    def _torch_dropout(self, input: Tensor, p: float, train: bool) -> Tensor:
        """``native_dropout`` keeps a bool mask (``is_fused_kernel_acceptable``, aten/src/ATen/native/Dropout.cpp)."""
        if not train or p == 0 or p == 1 or not input.numel():
            return torch._VF.dropout(input, p, train)
        result: Tensor = torch.native_dropout(input, p, True)[0]
        return result

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        query, key, value = (_autocast(part) for part in (query, key, value))
        if query.dim() != 4:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        head, same_heads = query.shape[-1], query.shape[1] == key.shape[1]
        backend = attention_backend(self._gpu, query.dtype, head, attn_mask is not None, same_heads)
        if backend is AttentionBackend.FLASH:
            return _flash(query, key, value, dropout_p, is_causal, scale)
        mask = _float_mask(attn_mask, query)
        if backend is AttentionBackend.EFFICIENT:
            keeps = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, mask, keeps, dropout_p, is_causal, scale=scale
            )[0]
        return aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]


def _flash(query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool, scale: float | None) -> Any:
    """Heads are padded to a multiple of 8 (``pad_last_dim``, aten/src/ATen/native/transformers/attention.cpp)."""
    head = query.shape[-1]
    if head % 8:
        scale = scale if scale is not None else head**-0.5
        query, key, value = (functional.pad(part, (0, 8 - head % 8)) for part in (query, key, value))
    result = aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, False, scale=scale)[0]
    return result[..., :head] if head % 8 else result


def _float_mask(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A bool mask becomes numbers to add (``convert_boolean_attn_mask``, same file); queries may share one mask."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.where(mask, torch.zeros((), dtype=query.dtype), torch.full((), float("-inf"), dtype=query.dtype))
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], mask.shape[-1])


def _rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Any:
    """One fused kernel that keeps the inverse root alone (``rms_norm_symint``, aten/src/ATen/native/layer_norm.cpp)."""
    return aten._fused_rms_norm(input, normalized_shape, weight, eps)[0]


def _autocast(tensor: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu") and tensor.dtype == torch.float32:
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor


def _to_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in _HALVES:
        return value.to(torch.float32)
    return value


_FLOAT32_NAMES = (
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh"),
    *("tan", "pow", "norm", "cumprod", "cumsum", "prod", "sum", "softmax", "log_softmax", "layer_norm", "group_norm"),
    *("dist", "renorm", "cdist"),
)
_FLOAT32_FUNCTIONALS = (
    *("softmax", "log_softmax", "softplus", "softmin", "layer_norm", "group_norm", "cross_entropy", "nll_loss"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "kl_div", "huber_loss", "soft_margin_loss", "cosine_similarity"),
    *("gelu_backward",),
)
_FLOAT32_FUNCTIONS = frozenset(
    found
    for owner, names in ((torch, _FLOAT32_NAMES), (Tensor, _FLOAT32_NAMES), (functional, _FLOAT32_FUNCTIONALS))
    for name in names
    if (found := getattr(owner, name, None)) is not None
)
"""Functions that autocast runs in float32 on CUDA (``AT_FORALL_FP32``, aten/src/ATen/autocast_mode.h)."""
