"""What happens only because tensors are fake, put right: rules that hold for every device.

Autograd avoids in-place operators on tensor subclasses (at::isTensorSubclassLike), because a subclass may not have
them. Fake tensors are a subclass, so that autograd makes new tensors where a real run reuses the old ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.labels import address_of
from vramscope.recorders.virtual.formulas import NOWHERE, in_formula, position_of
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument
from vramscope.recorders.virtual.operators.sparse import (
    added,
    added_in_place,
    bags_backward,
    coalesce,
    copied,
    is_sparse,
    made_of,
    parts,
    sparse_mask,
    turned,
)

aten = torch.ops.aten
_ACCUMULATES = "torch::autograd::AccumulateGrad"
_AMINMAX = "AminmaxBackward"
_FILL = ("Atan2Backward", "TraceBackward")
_COMBINE = ("ClampBackward", "MaxBackward", "MinBackward", "MedianBackward", "NanmedianBackward")
_SCATTER = "ScatterBackward"
_LOGITS = "BinaryCrossEntropyWithLogitsBackward0"
_ONLY_OWNER, _ONLY_STORAGE_OWNER = 4, 2
"""Reference counts of a tensor and its storage inside a dispatch mode where one C++ variable holds the tensor:
the Python object, the stack of the call and its boxed argument add three and one."""


def has_one_owner(tensor: Tensor) -> bool:
    """Whether whoever called the operator is the only one who refers to this tensor and to its storage."""
    storage = tensor.untyped_storage()
    return (
        tensor._use_count() <= _ONLY_OWNER  # type: ignore[attr-defined]  # not in torch's stubs
        and torch._C._storage_Use_Count(storage._cdata) <= _ONLY_STORAGE_OWNER
    )


def add(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Gradients that flow together at a node are added into the first one if nobody else holds it.

    Source: ``accumulate`` in torch/csrc/autograd/input_buffer.cpp. A node's own formula adds too; but before the engine
    adds a result to what is there, it has asked for the result's device twice: when it checked it, and for its stream.
    The formula of ``aminmax`` adds the gradient of the largest numbers into that of the smallest (``aminmax_backward``
    in torch/csrc/autograd/FunctionsManual.cpp).
    """
    first, second = args[:2]
    if is_sparse(first) and is_sparse(second):
        return added(mode, first, second)
    if _works_for(_AMINMAX) and _is_taken_in(first, second):
        return first
    if kwargs or not isinstance(second, Tensor) or mode.asked_for_device(second) < 2 or not in_formula():
        return mode.run(func, *args, **kwargs)
    result = first if _may_take_in(first, second) else mode.run(func, *args)
    mode.memory.see(result)
    mode.take_as_asked_once()  # it has checked all results of the node, and adds them up before anything else runs
    return result


def _may_take_in(gradient: Tensor, other: Tensor) -> bool:
    if is_sparse(gradient) or is_sparse(other):
        return False
    return gradient.shape == other.shape and gradient.dtype == other.dtype and has_one_owner(gradient)


def fills_its_own(mode: VirtualMode, tensor: Tensor) -> bool:
    """Whether a formula of torch's own, whose gradient is not wanted, works in what it has just made."""
    return not torch.is_grad_enabled() and mode.memory.is_newest(tensor) and in_formula()


def in_place(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A backward formula that fills a fresh tensor of zeros does so in place.

    Source: ``index_backward``, ``value_selecting_reduction_backward`` and their like in
    torch/csrc/autograd/FunctionsManual.cpp, which choose by ``areAnyTensorSubclassLike``.
    """
    if fills_its_own(mode, args[0]):
        return args[0]
    return mode.run(func, *args, **kwargs)


def filled(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """As `in_place`, where the formula has told meanwhile which numbers to fill.

    Source: ``atan2_backward`` and ``trace_backward_symint`` in torch/csrc/autograd/FunctionsManual.cpp.
    """
    if not torch.is_grad_enabled() and _works_for(_FILL) and in_formula():
        return args[0]
    return mode.run(func, *args, **kwargs)


def scatter(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """As `in_place`, but for the backward of ``scatter`` itself, which starts from the gradient that it is given.

    Source: ``grad.scatter(dim, index, 0)`` in tools/autograd/derivatives.yaml. The node before may just have made it.
    """
    if _works_for(_SCATTER):
        return mode.run(func, *args, **kwargs)
    return in_place(mode, func, args, kwargs)


def _works_for(names: str | tuple[str, ...]) -> bool:
    """Whether the engine is at a node whose name begins like this, or like one of these."""
    node = torch._C._current_autograd_node()
    return node is not None and node.name().startswith(names)


def combined(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Which numbers were within both limits, or chosen, told in the first of two masks.

    Source: ``clamp_backward``, ``clamp_backward_min_max`` and ``evenly_distribute_backward`` in
    torch/csrc/autograd/FunctionsManual.cpp.
    """
    if _works_for(_COMBINE) and _is_taken_in(*args[:2]):
        return args[0]
    return mode.run(func, *args, **kwargs)


def _is_taken_in(first: Any, second: Any) -> bool:
    """Whether a formula, whose gradient is not wanted, works in the first of two, where the other fits into it."""
    return not torch.is_grad_enabled() and isinstance(first, Tensor) and _keeps_form(first, second) and in_formula()


def scattered(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A copy with a part replaced: of all the memory that the tensor lies in, so that it keeps its strides.

    Source: ``clone_preserve_strides`` in aten/src/ATen/native/TensorShape.cpp; numbers that lie in one place are copied
    one by one there.
    """
    given = args[0]
    if fills_its_own(mode, given):
        return given
    if any(stride == 0 and size > 1 for size, stride in zip(given.shape, given.stride(), strict=True)):
        return mode.run(func, *args, **kwargs)
    elements = given.untyped_storage().nbytes() // given.element_size()
    memory = mode.run(aten.new_empty.default, given, [elements])
    return mode.describe(aten.as_strided.default, memory, given.shape, given.stride(), given.storage_offset())


def clone(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The copy of a sparse tensor; the engine takes a gradient over instead of copying it.

    Source: ``AccumulateGrad::accumulateGrad`` in torch/csrc/autograd/functions/accumulate_grad.h, which copies where
    somebody else refers to the gradient's parts, as whoever makes a fake does.
    """
    given = args[0]
    if not is_sparse(given):
        return mode.run(func, *args, **kwargs)
    if _works_for(_ACCUMULATES) and in_formula():
        return made_of(mode, given, *parts(mode, given), given.is_coalesced())
    return copied(mode, given)


def lies_as(second: int) -> Rule:
    """The rule for a gradient that lies as the product of the given one and another argument would.

    Fakes make it of a condition and two numbers to choose from, which lie otherwise.

    Source: ``TensorIterator::borrowing_binary_op`` in aten/src/ATen/native/Activation.cpp and UnaryOps.cpp.

    Args:
        second: the place of the other argument.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return mode.run(aten.mul.Tensor, args[0], args[second])

    return rule


class LogitsBackward:
    """The backward of binary cross entropy with logits works in what it has just made.

    Source: ``binary_cross_entropy_with_logits_backward`` in torch/csrc/autograd/FunctionsManual.cpp, which avoids that
    where a tensor is a subclass, or where its own gradient is wanted.
    """

    def __init__(self) -> None:
        self._node = NOWHERE
        self._made: set[int] = set()
        """Storages that the node's formula has worked in."""

    def rule(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A difference or a product, in place where the formula is at work and has made its first operand."""
        if not torch.is_grad_enabled() and in_formula() and self._is_own(mode, *args[:2]):
            return args[0]
        return mode.run(func, *args, **kwargs)

    def _is_own(self, mode: VirtualMode, first: Any, second: Any) -> bool:
        node = torch._C._current_autograd_node()
        if node is None or node.name() != _LOGITS or not isinstance(first, Tensor):
            return False
        key = position_of(node)
        if key != self._node:
            self._node, self._made = key, set()
        address = address_of(first.untyped_storage())
        if not (address in self._made or mode.memory.is_newest(first)) or not _keeps_form(first, second):
            return False
        self._made.add(address)
        return True


def _keeps_form(first: Tensor, second: Any) -> bool:
    """Whether the first operand can take in the second: in its shape, and in its type, however wide the other's is."""
    if not isinstance(second, Tensor):
        return True
    fits = torch.can_cast(torch.result_type(first, second), first.dtype)
    return fits and torch.broadcast_shapes(first.shape, second.shape) == first.shape


def grouped_mm(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Grouped matrix products of any type, which fakes know for bfloat16 alone; others are made one after another.

    Source: ``_grouped_mm_cuda`` in aten/src/ATen/native/cuda/GroupedBlas.cpp, and its fallback.
    """
    first, second = args[:2]
    if first.dtype == torch.bfloat16:
        return mode.run(func, *args, **kwargs)
    offsets: Any = argument(args, kwargs, 2, "offs", None)
    groups = [part.shape[0] for part in (first, second) if part.dim() == 3]
    if first.dim() == second.dim() == 2:
        groups = [offsets.numel()]
    is_batch = len(groups) == 2 or first.dim() == second.dim() == 2
    shape = [*(groups[:1] if is_batch else []), first.shape[-2], second.shape[-1]]
    return mode.run(aten.new_empty.default, first, shape, dtype=kwargs.get("out_dtype") or first.dtype)


ARTEFACTS: Mapping[OpOverload, Rule] = {
    aten.add.Tensor: add,
    aten.add_.Tensor: added_in_place,
    aten.index_put.default: in_place,
    aten.index_add.default: in_place,
    aten.scatter.src: scatter,
    aten.scatter.value: scatter,
    aten.scatter_add.default: in_place,
    aten.masked_scatter.default: in_place,
    aten.put.default: in_place,
    **dict.fromkeys((aten.masked_fill.Scalar, aten.index_fill.int_Tensor), filled),
    aten.elu_backward.default: lies_as(5),
    **dict.fromkeys(
        (
            *(aten.softplus_backward.default, aten.hardtanh_backward.default, aten.hardswish_backward.default),
            *(aten.hardsigmoid_backward.default, aten.logit_backward.default),
        ),
        lies_as(1),
    ),
    **dict.fromkeys((aten.logical_and.default, aten.logical_or.default), combined),
    aten.select_scatter.default: scattered,
    aten.slice_scatter.default: scattered,
    aten.diagonal_scatter.default: scattered,
    aten.as_strided_scatter.default: scattered,
    aten.clone.default: clone,
    aten._coalesce.default: coalesce,
    aten.sparse_mask.default: sparse_mask,
    **dict.fromkeys((aten.t.default, aten.transpose.int), turned),
    aten._embedding_bag_backward.default: bags_backward,
    **dict.fromkeys((aten.sub.Tensor, aten.mul.Tensor), LogitsBackward().rule),
    aten._grouped_mm.default: grouped_mm,
}
