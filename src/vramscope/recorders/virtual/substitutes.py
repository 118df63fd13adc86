"""Values that only data would decide, such as ``.item()``: a stated substitute, and a note of where it was needed."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from vramscope.recorders.virtual.known_numbers import KNOWN_NUMBERS, known, unless_known
from vramscope.recorders.virtual.mode import Rule, VirtualMode, argument

aten = torch.ops.aten
_ONE = "a value read from a tensor (.item() or a test of it) is taken to be 1, a condition not to hold"
_ALL_HOLD = "a test of whether all elements hold (.all()), or of whether numbers are finite, is taken to hold"
_SIZE = "what is as large as an integer read from a tensor says, as one_hot without num_classes, is a lower bound"
_ALL_CHOSEN = "nonzero, masks: every element is taken to be nonzero or chosen, the most there can be"
_EVENLY = "bincount: elements are taken to be spread evenly, over as many numbers as minlength says, else over 0 and 1"
_EITHER_WAY = (
    "data decide both how much is chosen here, taken to be the most, and how large it is, taken to be little: the "
    "total may be far too high or far too low, and only a measurement tells"
)
TAKEN_FOR_DATA = (_ONE, _ALL_HOLD, _ALL_CHOSEN, _EVENLY)
"""What is told where values that data decide were substituted, which a program may not bear."""


def doubts(notes: Collection[str]) -> tuple[str, ...]:
    """What is said besides where one substitute makes the total too high and another one too low."""
    return (_EITHER_WAY,) if {_SIZE, _ALL_CHOSEN} <= set(notes) else ()


def item(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``tensor.item()``: the value where it is known (a constant), else 1 or 1.0, or whether a condition holds.

    Most do not, because loops such as the one in ``torch.nn.init.trunc_normal_`` run for as long as anything is still
    wrong; which ones do is told by `Truths`.
    """
    tensor = args[0]
    if not isinstance(tensor, FakeTensor):
        return mode.run_real(func, *args, **kwargs)
    try:
        with mode.memory.hide():
            return func(*args, **kwargs)
    except DataDependentOutputException:
        return _holds(mode, tensor) if tensor.dtype == torch.bool else _number(mode, tensor)


def _holds(mode: VirtualMode, condition: FakeTensor) -> bool:
    holds = mode.truths.hold(condition)
    mode.note(_ALL_HOLD if holds else _ONE)
    return holds


def _number(mode: VirtualMode, tensor: FakeTensor) -> int | float:
    if mode.truths.told(tensor) is False:
        mode.note(_ALL_HOLD)
        return 0
    return _one(mode, tensor.dtype)


def _one(mode: VirtualMode, dtype: torch.dtype) -> int | float:
    mode.note(_ONE)
    if _is_integer(dtype):
        mode.note(_SIZE)
    return 1.0 if dtype.is_floating_point else 1


def _is_integer(dtype: torch.dtype) -> bool:
    """Whether numbers of this type may be sizes."""
    return not (dtype.is_floating_point or dtype.is_complex)


@unless_known
def allclose(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``torch.allclose`` and ``torch.equal``: a condition like any other.

    ``istft`` asks by the latter whether its windows leave gaps (``is_scalar_tensor_true`` in
    aten/src/ATen/TensorSubclassLikeUtils.h), and raises where they do.
    """
    mode.note(_ONE)
    return False


@unless_known
def nonzero(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Every element counts: [elements, dimensions] indices, the most there can be."""
    tensor: FakeTensor = args[0]
    mode.note(_ALL_CHOSEN)
    return mode.run(aten.new_empty.default, tensor, [tensor.numel(), tensor.dim()], dtype=torch.int64)


def index(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``tensor[mask]``: every element is chosen; a mask stands for one index tensor per dimension of it.

    Source: ``expandTensors`` in aten/src/ATen/native/IndexingUtils.h, which takes the mask's ``nonzero`` apart.
    """
    chosen: list[Any] = []
    for given in args[1]:
        if isinstance(given, Tensor) and given.dtype in (torch.bool, torch.uint8):
            chosen += mode.run_rule(aten.nonzero.default, given).unbind(1)
        else:
            chosen.append(given)
    return mode.run(func, args[0], chosen, *args[2:], **kwargs)


@unless_known
def masked_select(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``masked_select``: every element is chosen."""
    mode.note(_ALL_CHOSEN)
    return mode.run(aten.new_empty.default, args[0], [torch.broadcast_shapes(args[0].shape, args[1].shape).numel()])


@unless_known
def unique(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``torch.unique``: no element occurs twice."""
    inverse, counts = (
        argument(args, kwargs, at, f"return_{name}", False) for at, name in ((2, "inverse"), (3, "counts"))
    )
    return _all_once(mode, args[0], inverse, counts)


@unless_known
def unique_of_two(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the gradient of a number that ``index_fill`` puts in asks of the indices: as `unique`, without counts."""
    return _all_once(mode, args[0], argument(args, kwargs, 2, "return_inverse", False), False)[:2]


@unless_known
def unique_consecutive(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``torch.unique_consecutive``: no element occurs twice, which is what it takes whatever the data are.

    Source: ``unique_consecutive_cpu_template`` in aten/src/ATen/native/Unique.cpp, which shrinks its results in place.
    """
    if argument(args, kwargs, 3, "dim", None) is not None:
        return mode.run(func, *args, **kwargs)
    inverse, counts = (
        argument(args, kwargs, at, f"return_{name}", False) for at, name in ((1, "inverse"), (2, "counts"))
    )
    return _all_once(mode, args[0], inverse, counts)


def _all_once(mode: VirtualMode, given: Tensor, inverse: bool, counts: bool) -> tuple[Tensor, ...]:
    mode.note("unique: no element is taken to occur twice")
    sizes = [given.numel()], list(given.shape) if inverse else [0], [given.numel()] if counts else [0]
    dtypes = given.dtype, torch.int64, torch.int64
    empty = aten.new_empty.default
    return tuple(mode.run(empty, given, size, dtype=dtype) for size, dtype in zip(sizes, dtypes, strict=True))


@unless_known
def bincount(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``torch.bincount``: elements are spread evenly, so that a program may split them by their counts.

    The largest number is 1 where ``minlength`` does not say more. Without weights the counts are known, and add up.

    Source: ``_bincount_cpu_template`` in aten/src/ATen/native/SummaryOps.cpp: the least and the largest number first.
    """
    mode.note(_EVENLY)
    given, weights = args[0], argument(args, kwargs, 1, "weights", None)
    bins, number = max(argument(args, kwargs, 2, "minlength", 0), 2), given.element_size()
    mode.memory.pass_through((number,))
    mode.memory.pass_through((number,))
    if weights is not None:
        dtype = weights.dtype if weights.dtype == torch.float32 else torch.float64
        return mode.run(aten.new_empty.default, weights, [bins], dtype=dtype)
    with mode.memory.hide(), _disable_current_modes():
        whole, rest = divmod(given.numel(), bins)
        counts = torch.full((bins,), whole).add_(torch.arange(bins) < rest)
    return known(mode, given.fake_mode, counts)


def left_aligned(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Whether a batch of padded sequences may be packed, as ``nn.TransformerEncoder`` would: taken not to be so."""
    mode.note("nn.TransformerEncoder with a padding mask: sequences are taken not to be packed, the most there can be")
    return False


def matrix_exp(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``torch.linalg.matrix_exp``: how many powers it needs, and keeps meanwhile, is a matter of the matrix's norm.

    Source: ``mexp_impl`` in aten/src/ATen/native/LinearAlgebra.cpp.
    """
    mode.note("linalg.matrix_exp: the powers that it keeps meanwhile count as 0: a lower bound")
    return mode.run(func, *args, **kwargs)


SUBSTITUTES: Mapping[OpOverload, Rule] = {
    **KNOWN_NUMBERS,
    aten._local_scalar_dense.default: item,
    **dict.fromkeys((aten.allclose.default, aten.equal.default), allclose),
    aten.nonzero.default: nonzero,
    aten.index.Tensor: index,
    aten.masked_select.default: masked_select,
    aten._unique2.default: unique,
    aten._unique.default: unique_of_two,
    aten.unique_consecutive.default: unique_consecutive,
    aten.bincount.default: bincount,
    aten._nested_tensor_from_mask_left_aligned.default: left_aligned,
    aten.linalg_matrix_exp.default: matrix_exp,
}
