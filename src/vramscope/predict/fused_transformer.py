"""The fused operators that ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` run on for inference.

Source: ``native_multi_head_attention_cuda`` in aten/src/ATen/native/transformers/cuda/attention.cu and
``transformer_encoder_layer_forward`` in transformers/transformer.cpp.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.attention import Attention, AttentionBackend, attention_backend
from vramscope.predict.gpus import Gpu
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.mode import Rule, made_of_others

aten = torch.ops.aten
_ALIGNMENT = 8


def fused_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for fused operators, by operator."""
    return {
        aten._native_multi_head_attention.default: made_of_others(partial(multi_head_attention, gpu)),
        aten._transformer_encoder_layer_fwd.default: made_of_others(partial(encoder_layer, gpu)),
    }


def multi_head_attention(
    gpu: Gpu,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """One projection and the attention of tensors that are one and the same, if nobody wants weights; else products.

    Returns:
        The result [batch, length, embedding], and weights [batch, length, length], nothing, or [batch, heads, length,
        length] where they are not averaged.
    """
    batch, length, _ = query.shape
    heads = (batch, -1, num_head, embed_dim // num_head)
    nothing = query.new_empty(0)
    if query is key is value and mask is None and not need_weights and _has_kernel(gpu, query, num_head, heads[3]):
        packed = aten.linear(query, qkv_weight, qkv_bias)
        parts = (part.view(heads).transpose(1, 2) for part in packed.chunk(3, -1))
        together = aten.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, length, embed_dim)
        return aten.linear(together, proj_weight, proj_bias), nothing
    packed = _projected(query, key, value, qkv_weight)
    packed = torch.empty_like(packed)  # with the bias, and by heads; query, key and value are views of it
    scores = query.new_empty(batch, num_head, length, key.shape[1])
    weights = scores if mask is None else _masked_softmax(scores, mask)
    del scores
    if not need_weights:
        weights = nothing
    by_head = query.new_empty(batch, length, embed_dim)
    result = aten.linear(by_head, proj_weight, proj_bias)
    del by_head
    if need_weights and average_attn_weights:
        weights = weights.sum(1)
    return result, weights


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights like the scores; a mask of numbers, or one that is expanded, becomes one of conditions on the way."""
    conditions = None
    if mask.dtype != torch.bool or not mask.is_contiguous():
        conditions = torch.empty(mask.shape, dtype=torch.bool, device=mask.device)
    weights = torch.empty_like(scores)
    del conditions
    return weights


def _has_kernel(gpu: Gpu, query: Tensor, heads: int, head_size: int) -> bool:
    described = Attention(query.dtype, head_size, heads=(heads, heads), lengths=(query.shape[1],) * 2)
    if TORCH < (2, 12) and head_size % _ALIGNMENT:
        return False
    return attention_backend(gpu, described) is not AttentionBackend.MATH


def _projected(query: Tensor, key: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Query, key and value beside each other: one product, two if key and value are one, or three."""
    size = weight.shape[1]
    if query is key is value:
        packed: Tensor = aten.matmul(query, weight.t())
        return packed
    others = [key] if key is value else [key, value]
    parts = [aten.matmul(query, weight[:size].t())]
    widths = [2 * size] if key is value else [size, size]
    parts += [aten.matmul(other, weight[:width].t()) for other, width in zip(others, widths, strict=True)]
    return torch.cat(parts, 2)


def encoder_layer(
    gpu: Gpu,
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """Attention, what is added in place, norms, and two linear layers.

    Returns:
        As many numbers as ``src`` has, [batch, length, embedding].
    """

    def first_norm(x: Tensor) -> Tensor:
        return torch.layer_norm(x, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def second_norm(x: Tensor) -> Tensor:
        return torch.layer_norm(x, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    x = first_norm(src) if norm_first else src
    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    x = multi_head_attention(gpu, x, x, x, embed_dim, num_heads, *projections, mask, need_weights=False)[0]
    x.add_(src)
    x = x if norm_first else first_norm(x)
    before = x
    x = second_norm(x) if norm_first else x
    wide = aten.linear(x, ffn_weight_1, ffn_bias_1)  # the activation is fused, or in place
    x = aten.linear(wide, ffn_weight_2, ffn_bias_2)
    del wide
    x.add_(before)
    return x if norm_first else second_norm(x)
