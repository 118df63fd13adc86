"""Scaled dot product attention as CUDA computes it: the backend that torch chooses, and what each backend is given.

Sources, under aten/src/ATen/native/transformers: ``can_use_*_attention``, ``check_prefer_cudnn_attention`` and
``select_sdp_backend`` in cuda/sdp_utils.cpp; ``scaled_dot_product_attention`` in attention.cpp.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vramscope.predict.gpus import Gpu

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_FLASH_HEAD_LIMIT, _CUDNN_HEAD_LIMIT = 256, 128
_FLASH_TRAINS_UP_TO = 192
_NO_WIDE_TRAINING = ((8, 6), (8, 9), (12, 0), (12, 1))
_ALIGNMENT = 8


class AttentionBackend(StrEnum):
    """How scaled dot product attention is computed."""

    CUDNN = "cudnn"
    FLASH = "flash"
    EFFICIENT = "memory_efficient"
    MATH = "math"


@dataclass(frozen=True)
class Attention:
    """What the choice of a backend depends on.

    ``heads`` are those of query and key, ``lengths`` likewise; ``head_size`` is that of query, key and value,
    ``value_size`` that of the value where it differs.
    """

    dtype: torch.dtype
    head_size: int
    has_mask: bool = False
    heads: tuple[int, int] = (1, 1)
    lengths: tuple[int, int] = (128, 128)
    causal: bool = False
    dropout: float = 0.0
    trains: bool = False
    value_size: int = 0


def attention_backend(gpu: Gpu, attention: Attention) -> AttentionBackend:
    """The first of torch's order that takes these tensors: cuDNN on Hopper and Blackwell, flash, efficient, math.

    One that the program has switched off (``torch.nn.attention.sdpa_kernel``) is passed over.
    """
    allowed = torch.backends.cuda
    if not all(attention.lengths):
        return AttentionBackend.MATH
    if allowed.cudnn_sdp_enabled() and _prefers_cudnn(gpu) and _cudnn_takes(attention):
        return AttentionBackend.CUDNN
    if allowed.flash_sdp_enabled() and _flash_takes(gpu, attention):
        return AttentionBackend.FLASH
    if allowed.mem_efficient_sdp_enabled() and _efficient_takes(gpu, attention):
        return AttentionBackend.EFFICIENT
    return AttentionBackend.MATH


def _prefers_cudnn(gpu: Gpu) -> bool:
    """``check_prefer_cudnn_attention``: with cuDNN after 9.15.0, which the wheels of torch 2.11 and newer bring."""
    return gpu.capability in ((9, 0), (10, 0), (10, 3))


def _cudnn_takes(attention: Attention) -> bool:
    sizes = (attention.head_size, attention.value_size or attention.head_size)
    return (
        attention.dtype in _HALVES
        and all(size <= _CUDNN_HEAD_LIMIT and size % _ALIGNMENT == 0 for size in sizes)
        and attention.lengths[1] != 1
        and not (attention.dropout and attention.lengths[0] == 1)
        and (attention.dropout * 16).is_integer()
    )


def _flash_takes(gpu: Gpu, attention: Attention) -> bool:
    head, narrow = attention.head_size, _FLASH_TRAINS_UP_TO
    if (
        attention.trains
        and gpu.capability in _NO_WIDE_TRAINING
        and head > narrow
        and (attention.dropout or head <= 224)
    ):
        return False
    return (
        attention.dtype in _HALVES
        and gpu.has_flash_attention
        and not attention.has_mask
        and head <= _FLASH_HEAD_LIMIT
        and attention.value_size in (0, head)
        and not (attention.causal and attention.lengths[0] != attention.lengths[1])
    )


def _efficient_takes(gpu: Gpu, attention: Attention) -> bool:
    takes = (torch.float32, torch.float16, *((torch.bfloat16,) if gpu.capability >= (8, 0) else ()))
    alignment = _gemm_alignment(gpu, attention.dtype)
    sizes = (attention.head_size, attention.value_size or attention.head_size)
    return (
        attention.dtype in takes
        and attention.heads[0] == attention.heads[1]
        and all(size % alignment == 0 for size in sizes)
    )


def _gemm_alignment(gpu: Gpu, dtype: torch.dtype) -> int:
    """``minimum_gemm_alignment``: elements of 128 bits where tensor cores are used."""
    is_half = dtype in _HALVES
    if gpu.capability >= (8, 0) or (gpu.capability >= (7, 0) and is_half):
        return 128 // (16 if is_half else 32)
    return 1


def run_attention(
    gpu: Gpu,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``scaled_dot_product_attention`` by the operators that CUDA would run; arguments are its own."""
    trains = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    backend = attention_backend(gpu, _describe(query, key, value, attn_mask, dropout_p, is_causal, trains))
    if query.dim() != 4:
        backend = AttentionBackend.MATH
    if backend is AttentionBackend.FLASH:
        return _flash(query, key, value, dropout_p, is_causal, scale)
    mask = _numbers(attn_mask, query)
    if backend is AttentionBackend.CUDNN:
        return aten._scaled_dot_product_cudnn_attention(
            query, key, value, mask, trains, dropout_p, is_causal, False, scale=scale
        )[0]
    if backend is AttentionBackend.EFFICIENT:
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, _aligned(mask, query, key), trains, dropout_p, is_causal, scale=scale
        )[0]
    return _math(query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _math(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    *,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """Attention by matrix products, in float32 for 16-bit numbers; every tensor lives on to the end, as in C++.

    Torch's own, ``_scaled_dot_product_attention_math`` in attention.cpp, would add the mask to a copy where tensors are
    fake.
    """
    dtype = query.dtype
    wide = dtype in _HALVES and not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    wide_query, wide_key, wide_value = (part.to(torch.float32) if wide else part for part in (query, key, value))
    factor = abs(scale if scale is not None else query.shape[-1] ** -0.5) ** 0.5
    scaled = wide_query * (-factor if scale is not None and scale < 0 else factor)
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        mask = _numbers(mask, scaled)
    for_all_key, for_all_value = (_repeated(part, query) if enable_gqa else part for part in (wide_key, wide_value))
    weights = torch.matmul(scaled, for_all_key.transpose(-2, -1) * factor)
    if mask is not None:
        weights.add_(mask)
    weights = aten._safe_softmax(weights, -1)
    if dropout_p > 0:
        weights = torch.dropout(weights, dropout_p, True)
    returned_too = weights.to(dtype)  # noqa: F841 - C++ returns it, and makes it first
    return torch.matmul(weights, for_all_value).to(dtype)


def _repeated(part: Tensor, query: Tensor) -> Tensor:
    """Heads of key or value, repeated where several of the query share one, as ``enable_gqa`` asks for."""
    shared = query.shape[-3] // part.shape[-3]
    return part if shared == 1 else part.repeat_interleave(shared, -3)


def _describe(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool, trains: bool
) -> Attention:
    heads = (query.shape[-3], key.shape[-3]) if query.dim() > 2 else (1, 1)
    lengths = (query.shape[-2], key.shape[-2])
    sizes = query.shape[-1], value.shape[-1]
    return Attention(query.dtype, sizes[0], mask is not None, heads, lengths, causal, dropout, trains, sizes[1])


def _flash(query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool, scale: float | None) -> Any:
    """Heads are padded to a multiple of 8 (``pad_last_dim``)."""
    head = query.shape[-1]
    if head % _ALIGNMENT:
        scale = scale if scale is not None else head**-0.5
        query, key, value = (functional.pad(part, (0, -head % _ALIGNMENT)) for part in (query, key, value))
    result = aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, False, scale=scale)[0]
    return result[..., :head] if head % _ALIGNMENT else result


def _numbers(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A bool mask becomes numbers to add (``convert_boolean_attn_mask``)."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.full((), float("-inf"), dtype=query.dtype))


def _aligned(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """Rows of a mask begin at multiples of 8 elements; queries may share one mask (``preprocess_mask``)."""
    if mask is None:
        return None
    if mask.stride(-1) != 1 or any(stride % _ALIGNMENT for stride in mask.stride()[:-1]):
        length = mask.shape[-1]
        mask = functional.pad(mask, (0, _ALIGNMENT - length % _ALIGNMENT))[..., :length]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
