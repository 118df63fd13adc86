"""Computes for real what comes of known numbers alone, where that is little; all else runs without their values.

Torch does so too (``FakeTensorMode._dispatch_impl`` in torch/_subclasses/fake_tensor.py), but whatever the size of what
comes out, and inside of its fake operators as well, where memory that nobody has written to counts as known.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
MOST = 1 << 18
"""Elements of a tensor whose values are kept: the mask of 64 sequences of 4,096, and computed in a millisecond."""
_UNWRITTEN = (aten.new_empty.default, aten.new_empty_strided.default, aten.empty_like.default)
_BY_DATA = (DataDependentOutputException, DynamicOutputShapeException)


def run(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """An operator on fakes: its result, with its values where all that it depends on is known."""
    known = [one for one in _tensors(args, kwargs) if isinstance(one, FakeTensor) and one.constant is not None]
    if not known or func._schema.is_mutable:  # what is written to is forgotten by torch itself
        return func(*args, **kwargs)
    knows_all = len(known) == sum(1 for _ in _tensors(args, kwargs)) and _may_compute(func)
    try:
        with _hidden(known):
            result = func(*args, **kwargs)
    except _BY_DATA:
        if not knows_all:
            raise
        return _computed(func, args, kwargs)
    return _computed(func, args, kwargs) if knows_all and is_little(result) else result


def _tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of an operator, by themselves or in lists."""
    for given in (*args, *kwargs.values()):
        if isinstance(given, Tensor):
            yield given
        elif isinstance(given, list | tuple):
            yield from (one for one in given if isinstance(one, Tensor))


@cache
def _may_compute(func: OpOverload) -> bool:
    """Whether an operator may run for real, and gives values that mean something.

    Fakes cannot hold the values of sparse tensors, and a kernel that is not torch's own may be missing here, or slow.
    """
    is_random = torch.Tag.nondeterministic_seeded in func.tags
    return (
        func.namespace in ("aten", "prims") and "sparse" not in func.name() and not is_random and func not in _UNWRITTEN
    )


@contextmanager
def _hidden(known: Sequence[FakeTensor]) -> Iterator[None]:
    """Until left, these have no values."""
    values = [one.constant for one in known]
    for one in known:
        one.constant = None
    try:
        yield
    finally:
        for one, value in zip(known, values, strict=True):
            one.constant = value


def is_little(result: Any) -> bool:
    """Whether the values of what an operator makes are to be kept."""
    made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
    return bool(made) and all(one.numel() <= MOST and one.device.type == "cpu" for one in made)


def _computed(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    fakes = next(one.fake_mode for one in _tensors(args, kwargs) if isinstance(one, FakeTensor))
    with _disable_current_modes():
        result = func(*_real(args), **_real(dict(kwargs)))
    return tree_map_only(Tensor, lambda one: fake_of(fakes, one), result)


def fake_of(fakes: FakeTensorMode, real: Tensor) -> Tensor:
    """A fake that has a real tensor's values; views of it are found by the real one's storage."""
    with _disable_current_modes():
        fake: Tensor = fakes.fake_tensor_converter.from_real_tensor(fakes, real, make_constant=True)
    return fake


def _real(given: Any) -> Any:
    return tree_map_only(FakeTensor, lambda one: one.constant, given)
