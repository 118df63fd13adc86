"""Tensors that no data decide, such as ``torch.linspace(0, 0.1, layers)`` or a mask of ones: computed for real.

Models are built from such numbers: widths, rates of stochastic depth, window sizes. They also decide what runs: a mask
of nothing but ones is dropped before attention. Fake tensors keep real values beside them (`FakeTensor.constant`) for
what is written out in a program and for single numbers made of that.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from vramscope.recorders.autograd_threads import in_backward
from vramscope.recorders.virtual.memory import VirtualMemory
from vramscope.recorders.virtual.mode import Rule, VirtualMode
from vramscope.recorders.virtual.values import MOST, fake_of, is_little

aten = torch.ops.aten
_DATA: Any = Tensor.data


@contextmanager
def numbers_kept(memory: VirtualMemory) -> Iterator[None]:
    """Until left, what is computed from known numbers alone is known too, where it is not large.

    Torch forgets numbers that a single tensor's operator overwrites. Here also those are forgotten that operators over
    lists write to and that ``.data`` replaces, and a copy of a tensor has values of its own.
    """
    forget = FakeTensorMode.invalidate_written_to_constants
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", MOST))
        stack.enter_context(mock.patch.object(FakeTensorMode, forget.__name__, _with_lists(forget)))
        stack.enter_context(mock.patch.object(FakeTensor, "data", property(_data, _replace_data), create=True))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _copying(memory), create=True))
        yield


def _forget(tensor: FakeTensor) -> None:
    if tensor.constant is not None:
        tensor.fake_mode.fake_tensor_converter.invalidate_constant_aliases(tensor.constant)


def _with_lists(original: Callable[..., None]) -> Callable[..., None]:
    """``FakeTensorMode.invalidate_written_to_constants``, which passes over lists."""

    def forget(mode: FakeTensorMode, func: OpOverload, flat: Any, args: Any, kwargs: Any) -> None:
        original(mode, func, flat, args, kwargs)
        for place, argument in enumerate(func._schema.arguments if func._schema.is_mutable else ()):
            written = args[place] if place < len(args) else kwargs.get(argument.name)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(written, list | tuple):
                for tensor in written:
                    _forget(tensor)

    return forget


def _data(tensor: FakeTensor) -> Tensor:
    found: Tensor = _DATA.__get__(tensor)
    return found


def _replace_data(tensor: FakeTensor, value: Tensor) -> None:
    _forget(tensor)
    if isinstance(value, FakeTensor):  # whoever writes to the one writes to the other from now on
        _forget(value)
    _DATA.__set__(tensor, value)


def _copying(memory: VirtualMemory) -> Callable[[FakeTensor, Any], Tensor]:
    """``Tensor.__deepcopy__`` would copy the values as one of the fake's attributes, with the modes on."""

    def copy(tensor: FakeTensor, memo: Any) -> Tensor:
        real = tensor.constant
        if real is None:
            return Tensor.__deepcopy__(tensor, memo)  # type: ignore[no-any-return]  # torch's own
        with memory.hide(), _disable_current_modes():
            memo[id(real)] = values = real.clone()
        tensor.constant = None
        try:
            result: FakeTensor = Tensor.__deepcopy__(tensor, memo)
        finally:
            tensor.constant = real
        result.constant = values
        result.fake_mode.fake_tensor_converter.add_constant_storage_mapping(result)
        return result

    return copy


def unless_known(rule: Rule) -> Rule:
    """A rule for what data decide; where the values of all tensors among the arguments are known, it is computed."""

    @wraps(rule)
    def chosen(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if all(value.constant is not None for value in (*args, *kwargs.values()) if isinstance(value, FakeTensor)):
            return mode.run(func, *args, **kwargs)
        return rule(mode, func, args, kwargs)

    return chosen


def counted_out(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Numbers that an operator counts out, whose values are kept where they are few."""
    return _known(mode, mode.describe(func, *args, **kwargs), lambda _: func(*args, **kwargs))


def uniform(value: int) -> Rule:
    """The rule for numbers that are all the same. Of those made like others only whole ones are known.

    Floating-point ones that are made like others are an optimizer's state, and what a backward pass makes are
    gradients: nothing is asked of them.
    """

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if in_backward() or any(isinstance(given, Tensor) and given.dtype.is_floating_point for given in args):
            return mode.run(func, *args, **kwargs)
        return _known(mode, mode.describe(func, *args, **kwargs), lambda fake: _filled(fake, value))

    return rule


def _filled(fake: Tensor, value: int) -> Tensor:
    return torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype).fill_(value)


def _known(mode: VirtualMode, fake: Any, real: Callable[[Tensor], Tensor]) -> Any:
    """What stands for the result of an operator, with its values where they are not many."""
    if type(fake) is FakeTensor and fake.numel() and is_little(fake):
        with mode.memory.hide(), _disable_current_modes():
            values = real(fake)
        return known(mode, fake.fake_mode, values)
    mode.memory.see(fake)
    return fake


def known(mode: VirtualMode, fakes: FakeTensorMode, real: Tensor) -> Tensor:
    """A fake that has a real tensor's values, and is seen in its place."""
    with mode.memory.hide():
        fake = fake_of(fakes, real)
    mode.memory.see(fake)
    return fake


_COUNTED_OUT = (
    *(aten.arange.default, aten.arange.start, aten.arange.start_step, aten.linspace.default, aten.logspace.default),
    *(aten.full.default, aten.eye.default, aten.eye.m, aten.scalar_tensor.default),
)
_ONES = (aten.ones.default, aten.new_ones.default, aten.ones_like.default)
_ZEROS = (aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default)
KNOWN_NUMBERS: Mapping[OpOverload, Rule] = {
    **dict.fromkeys(_COUNTED_OUT, counted_out),
    **dict.fromkeys(_ONES, uniform(1)),
    **dict.fromkeys(_ZEROS, uniform(0)),
}
