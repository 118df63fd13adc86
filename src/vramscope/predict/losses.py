"""Losses on CUDA: the order in which their kernels make what they return, and their scratch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.gpus import Gpu
from vramscope.predict.reduction_rules import sums_to_one
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument
from vramscope.recorders.virtual.operators.cpu_rules import in_order
from vramscope.recorders.virtual.operators.losses import MEAN, NONE, loss_rules, target_length

aten = torch.ops.aten
_MUCH = 450
_INDEX_BYTES = 8


def cuda_loss_rules(gpu: Gpu) -> Mapping[OpOverload, Rule]:
    """The rules of a GPU for losses, by operator."""
    return {
        **loss_rules(sums_to_one(gpu)),
        aten.log_sigmoid_forward.default: log_sigmoid,
        aten.nll_loss2d_forward.default: nll_loss2d,
        aten.multi_margin_loss.default: multi_margin_loss,
        aten.multilabel_margin_loss_forward.default: multilabel_margin_loss,
        **dict.fromkeys((aten._ctc_loss.default, aten._ctc_loss.Tensor), ctc_loss),
        **dict.fromkeys((aten._ctc_loss_backward.default, aten._ctc_loss_backward.Tensor), ctc_loss_backward),
    }


def log_sigmoid(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result alone: only the CPU keeps a buffer for backward.

    Source: ``log_sigmoid_forward_cuda`` in aten/src/ATen/native/cuda/Activation.cpp.
    """
    return mode.run(aten.empty_like.default, args[0]), mode.run(aten.new_empty.default, args[0], [0])


def nll_loss2d(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The sum of weights first where every place has its own loss.

    Source: ``nll_loss2d_forward_out_cuda_template`` in aten/src/ATen/native/cuda/NLLLoss2d.cu.
    """
    first, second = (1, 0) if args[3] == NONE else (0, 1)
    return in_order(first, second)(mode, func, args, kwargs)


def multi_margin_loss(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result, and every sample's loss while they are summed.

    Source: ``multi_margin_loss_cuda_out`` in aten/src/ATen/native/cuda/MultiMarginLoss.cu.
    """
    result = mode.run(func, *args, **kwargs)
    if argument(args, kwargs, 5, "reduction", MEAN) != NONE and args[0].dim() == 2:
        mode.memory.pass_through((args[0].shape[0] * args[0].element_size(),))
    return result


def multilabel_margin_loss(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Which classes are targets first, then every sample's loss while they are summed, and the result.

    Source: ``multilabel_margin_loss_forward_out_cuda_template`` in
    aten/src/ATen/native/cuda/MultiLabelMarginCriterion.cu.
    """
    given, reduction = args[0], args[2]
    result, is_target = mode.describe(func, *args, **kwargs)
    mode.memory.see(is_target)
    samples = mode.run(aten.new_empty.default, given, given.shape[:1]) if reduction and given.dim() == 2 else None
    mode.memory.see(result)
    del samples
    return result, is_target


def ctc_loss(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The logarithms of all partial alignments, and a loss for each sequence, by PyTorch's own kernels.

    How long the targets are is data: they are taken to fill what holds them, equally long where they lie end to end.

    Source: ``ctc_loss_gpu_template`` in aten/src/ATen/native/cuda/LossCTC.cu.
    """
    logarithms, targets, _, lengths = args[:4]
    batch = logarithms.shape[1]
    held = _lengths(mode, batch)
    shape = [batch, logarithms.shape[0], 2 * target_length(mode, targets, lengths, batch) + 1]
    alignments = mode.run(aten.new_empty.default, logarithms, shape)
    losses = mode.run(aten.new_empty.default, logarithms, [batch])
    del held
    return losses, alignments


def ctc_loss_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The same alignments from their ends, and the gradient of the logarithms.

    Source: ``ctc_loss_backward_gpu_template`` in aten/src/ATen/native/cuda/LossCTC.cu.
    """
    logarithms, alignments = args[1], args[6]
    held = _lengths(mode, logarithms.shape[1])
    backwards = mode.run(aten.empty_like.default, alignments)
    gradient = mode.run(aten.empty_like.default, logarithms, memory_format=torch.contiguous_format)
    _sum_blanks(mode, logarithms, alignments)
    del backwards, held
    return gradient


def _lengths(mode: VirtualMode, batch: int) -> list[Any]:
    """Where each target begins, and the lengths of inputs and targets."""
    return [mode.scratch(batch * _INDEX_BYTES) for _ in range(3)]


def _sum_blanks(mode: VirtualMode, logarithms: Tensor, alignments: Tensor) -> None:
    """Where there is much, what the blanks at every other place contribute is summed by operators."""
    length, batch, labels = logarithms.shape
    if 2 * length + 24 * batch // 10 + 2 * labels // 10 > _MUCH:
        both = mode.run(aten.new_empty.default, alignments, [batch, length, alignments.shape[2] // 2 + 1])
        total = mode.run_rule(aten.logsumexp.default, both, [2], True)
        del total, both
