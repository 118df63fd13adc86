"""Where an operator of the CPU allocates otherwise than its fake counterpart says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.artefacts import ARTEFACTS
from vramscope.recorders.virtual.mode import Rule, VirtualMode, run
from vramscope.recorders.virtual.operators.bags import embedding_bag
from vramscope.recorders.virtual.operators.im2col import im2col_rules
from vramscope.recorders.virtual.operators.losses import ctc_loss, ctc_loss_backward, loss_rules
from vramscope.recorders.virtual.operators.norms import (
    batch_norm_backward,
    float_statistics,
    layer_norm,
    layer_norm_backward,
)
from vramscope.recorders.virtual.operators.onednn import lstm_layer, lstm_layer_backward
from vramscope.recorders.virtual.operators.packing import pack, real_numbers
from vramscope.recorders.virtual.operators.python_kernels import python_kernels
from vramscope.recorders.virtual.operators.reductions import reduction_rules
from vramscope.recorders.virtual.operators.rolls import roll
from vramscope.recorders.virtual.operators.shortcuts import CPU_WAYS, WAYS, with_shortcuts
from vramscope.recorders.virtual.substitutes import SUBSTITUTES

aten = torch.ops.aten


def in_order(*order: int) -> Rule:
    """A rule for a kernel that makes its results in another order than it returns them."""

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = mode.describe(func, *args, **kwargs)
        for place in order:
            mode.memory.see(results[place])
        return results

    return rule


def group_norm_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, each in its own type; two float32 sums for every channel meanwhile.

    With [batch, channels] two blocks of 4 · batch · channels bytes, or twice that for float64.

    Source: ``native_group_norm_backward`` in aten/src/ATen/native/group_norm.cpp and ``GroupNormBackwardKernelImpl`` in
    aten/src/ATen/native/cpu/group_norm_kernel.cpp. Where channels lie together, threads have sums of their own besides.
    """
    given, weight, batch, channels, mask = args[1], *args[4:7], args[9]
    like = aten.empty_like.default
    gradients = [
        mode.run(like, of) if wanted else None for of, wanted in zip((given, weight, weight), mask, strict=True)
    ]
    wide = torch.promote_types(given.dtype, torch.float32)
    mode.memory.pass_through((batch * channels * wide.itemsize,) * 2)
    return tuple(gradients)


def max_unpool(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Channels lie together in the result where they do in the input.

    Source: ``max_unpooling2d_forward_out_cpu`` in aten/src/ATen/native/MaxUnpooling.cpp.
    """
    result = mode.describe(func, *args, **kwargs)
    given: Tensor = args[0]
    if given.dim() == 4 and not given.is_contiguous() and given.is_contiguous(memory_format=torch.channels_last):
        return mode.run(aten.empty_like.default, result, memory_format=torch.channels_last)
    mode.memory.see(result)
    return result


def encoder_layer(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A whole layer of a transformer; its products are autocast, and what they give is added to in place.

    Source: ``transformer_encoder_layer_forward`` in aten/src/ATen/native/transformers/transformer.cpp. Autocast leaves
    float64 as it is (``is_eligible`` in aten/src/ATen/autocast_mode.h).
    """
    result = mode.describe(func, *args, **kwargs)
    with mode.composites.taken_apart(func):
        parts_are_cast = torch.is_autocast_enabled("cpu") and result.dtype != torch.float64
    if parts_are_cast:
        return mode.run(aten.empty_like.default, result, dtype=torch.get_autocast_dtype("cpu"))
    mode.memory.see(result)
    return result


CPU_RULES: Mapping[OpOverload, Rule] = with_shortcuts(
    {
        **ARTEFACTS,
        **SUBSTITUTES,
        **loss_rules(),
        **dict.fromkeys((aten._ctc_loss.default, aten._ctc_loss.Tensor), ctc_loss),
        **dict.fromkeys((aten._ctc_loss_backward.default, aten._ctc_loss_backward.Tensor), ctc_loss_backward),
        **python_kernels(),
        **im2col_rules(),
        aten._pack_padded_sequence.default: pack,
        **dict.fromkeys((aten.select.int, aten.unbind.int), real_numbers),
        **reduction_rules(),
        **dict.fromkeys((aten.native_batch_norm.default, aten.native_group_norm.default), float_statistics),
        aten.native_layer_norm.default: layer_norm(float_statistics),
        aten.native_layer_norm_backward.default: layer_norm_backward(),
        aten.native_batch_norm_backward.default: batch_norm_backward,
        aten.native_group_norm_backward.default: group_norm_backward,
        aten.max_unpool2d.default: max_unpool,
        aten._transformer_encoder_layer_fwd.default: encoder_layer,
        aten.roll.default: roll(run),
        **dict.fromkeys((aten._embedding_bag.default, aten._embedding_bag_forward_only.default), embedding_bag),
        # mkldnn_convolution_backward, aten/src/ATen/native/mkldnn/Conv.cpp: input, bias, weight
        aten.convolution_backward.default: in_order(0, 2, 1),
        aten.mkldnn_rnn_layer.default: lstm_layer,
        aten.mkldnn_rnn_layer_backward.default: lstm_layer_backward,
    },
    {**WAYS, **CPU_WAYS},
)
