"""Losses that are reduced inside one operator: what they take on the way, and results that keep more than they show.

Some of these make every element's loss in the result's own memory and shrink the result afterwards. A tensor that
shrinks keeps its memory, so that a loss of four bytes holds on to as much as its input until it goes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument
from vramscope.recorders.virtual.operators.packing import numbers_of

aten = torch.ops.aten
_BACKWARDS = (
    aten.mse_loss_backward.default,
    aten.smooth_l1_loss_backward.default,
    aten.huber_loss_backward.default,
)
Scratch = Callable[[VirtualMode, Tensor], None]
NONE, MEAN = 0, 1
"""``Reduction`` in aten/src/ATen/core/Reduction.h."""


def no_scratch(mode: VirtualMode, elements: Tensor) -> None:
    """What a device takes that sums without partial results of its own."""


def loss_rules(scratch: Scratch = no_scratch) -> Mapping[OpOverload, Rule]:
    """Rules for losses, by operator; ``scratch`` notes what the sum of all elements takes on the way to one number."""
    return {
        **dict.fromkeys((aten.mse_loss.default, aten.smooth_l1_loss.default), _of_structured_kernel(scratch)),
        **dict.fromkeys(_BACKWARDS, gradient_of_its_input),
        aten.huber_loss.default: huber_loss,
        aten.soft_margin_loss.default: soft_margin_loss,
        aten.soft_margin_loss_backward.default: soft_margin_loss_backward,
        aten.binary_cross_entropy.default: binary_cross_entropy,
        aten.binary_cross_entropy_backward.default: like_the_input,
        aten.binary_cross_entropy_with_logits.default: binary_cross_entropy_with_logits,
    }


def reduced(mode: VirtualMode, elements: Tensor, reduction: int) -> Tensor:
    """``apply_loss_reduction`` in aten/src/ATen/native/Loss.cpp: a result of its own, unless nothing is reduced."""
    if reduction == NONE:
        return elements
    result: Tensor = mode.run_rule((aten.mean if reduction == MEAN else aten.sum).default, elements)
    return result


def _of_structured_kernel(scratch: Scratch) -> Rule:
    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result at full size, which then shrinks; every element's loss besides, while it is summed.

        Source: ``TORCH_META_FUNC(mse_loss)``, ``TORCH_META_FUNC(smooth_l1_loss)`` and their implementations in
        aten/src/ATen/native/BinaryOps.cpp and Loss.cpp.
        """
        result = mode.run(aten.sub.Tensor, *args[:2])
        if argument(args, kwargs, 2, "reduction", MEAN) == NONE:
            return result
        mode.shrink(result)
        elements = mode.run(aten.sub.Tensor, *args[:2])
        scratch(mode, elements)
        return result

    return rule


def gradient_of_its_input(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Zeros like the input, in its type, which are then filled: a target of another type changes nothing.

    Source: ``mse_loss_backward``, ``smooth_l1_loss_backward`` and ``huber_loss_backward`` in
    aten/src/ATen/native/Loss.cpp.
    """
    return mode.run(aten.empty_like.default, args[1], memory_format=torch.contiguous_format)


def huber_loss(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Every element's loss, and the sum of them. Source: ``huber_loss`` in aten/src/ATen/native/Loss.cpp."""
    elements = mode.run(aten.sub.Tensor, *args[:2])
    return reduced(mode, elements, argument(args, kwargs, 2, "reduction", MEAN))


def soft_margin_loss(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Every element's loss in the result, which then shrinks. Source: ``soft_margin_loss_out`` in Loss.cpp."""
    result = mode.run(aten.neg.default, args[0])
    return _shrunk_to_its_sum(mode, result, argument(args, kwargs, 2, "reduction", MEAN))


def soft_margin_loss_backward(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """``exp(-target * input)``, one tensor after another, then the gradient. Source: as `soft_margin_loss`."""
    given, target = args[1:3]
    negative = mode.run(aten.neg.default, target)
    product = mode.run(aten.mul.Tensor, negative, given)
    exponential = mode.run(aten.exp.default, product)
    del negative, product
    return mode.run(aten.new_empty.default, given, exponential.shape)


def binary_cross_entropy(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Every element's loss in the result, which then shrinks.

    Source: ``binary_cross_entropy_out_cuda`` in aten/src/ATen/native/cuda/Loss.cu, and the CPU's in Loss.cpp.
    """
    result = mode.run(aten.empty_like.default, args[0])
    return _shrunk_to_its_sum(mode, result, argument(args, kwargs, 3, "reduction", MEAN))


def _shrunk_to_its_sum(mode: VirtualMode, result: Tensor, reduction: int) -> Tensor:
    if reduction == NONE:
        return result
    total = reduced(mode, result, reduction)
    mode.shrink(result)
    del total
    return result


def like_the_input(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One tensor like the input, which fakes make of several. Source: ``binary_cross_entropy_backward`` in Loss.cpp."""
    return mode.run(aten.empty_like.default, args[1])


def binary_cross_entropy_with_logits(
    mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The logarithms of the sigmoid, then every element's loss, then the sum.

    Source: ``binary_cross_entropy_with_logits`` in Loss.cpp.
    """
    given, target = args[:2]
    positive = argument(args, kwargs, 3, "pos_weight", None)
    logarithm = mode.run_rule(aten.log_sigmoid_forward.default, given)[0]
    if positive is not None:
        less_one = mode.run(aten.sub.Tensor, positive, 1)
        weight = mode.run(aten.mul.Tensor, less_one, target)
        del less_one, weight
    elements = mode.run(aten.rsub.Scalar, target, 1)
    result = reduced(mode, elements, argument(args, kwargs, 4, "reduction", MEAN))
    del elements, logarithm
    return result


def target_length(mode: VirtualMode, targets: Tensor, lengths: Any, batch: int) -> int:
    """The longest target of a batch for ``ctc_loss``.

    Where that is data, targets are taken to fill what holds them, equally long where they lie end to end.
    """
    known = numbers_of(lengths) if isinstance(lengths, Tensor) else lengths
    if known is not None:
        return max(map(int, known), default=0)
    mode.note("ctc_loss: targets are taken to be as long as what holds them has room for")
    return int(targets.shape[1]) if targets.dim() == 2 else -(-targets.numel() // max(batch, 1))


def ctc_loss(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The logarithms of all partial alignments, [batch, length, 2 · longest target + 1], and a loss for each sequence.

    Source: ``ctc_loss_allocate_outputs`` in aten/src/ATen/native/LossCTC.cpp.
    """
    logarithms, targets, _, lengths = args[:4]
    length, batch, _ = logarithms.shape
    states = 2 * target_length(mode, targets, lengths, batch) + 1
    alignments = mode.run(aten.new_empty.default, logarithms, [batch, length, states])
    return mode.run(aten.new_empty.default, logarithms, [batch]), alignments


def ctc_loss_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The gradient of the logarithms, and meanwhile the same alignments from their ends.

    Source: ``ctc_loss_backward_cpu_template`` in aten/src/ATen/native/LossCTC.cpp.
    """
    logarithms, alignments = args[1], args[6]
    gradient = mode.run(aten.empty_like.default, logarithms, memory_format=torch.contiguous_format)
    mode.memory.pass_through((alignments.numel() * alignments.element_size(),))
    return gradient
