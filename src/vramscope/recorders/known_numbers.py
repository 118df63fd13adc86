"""Small tensors that no data decide, such as the rates of ``torch.linspace(0, 0.1, layers)``: computed for real.

Models are built from such numbers: widths, rates of stochastic depth, window sizes. Fake tensors keep real values
beside them (`FakeTensor.constant`) for what is written out in a program and for single numbers made of that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten
_MOST = 1024
"""Elements of a tensor whose values are kept: more layers than a network has, and quickly computed."""


@contextmanager
def numbers_kept() -> Iterator[None]:
    """Until left, what is computed from known numbers alone is known too, where it is not large."""
    with mock.patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", _MOST):
        yield


def is_known(*values: Any) -> bool:
    """Whether the values of all tensors among some arguments are known."""
    return all(value.constant is not None for value in values if isinstance(value, FakeTensor))


def counted_out(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Numbers that an operator counts out, whose values are kept where they are few."""
    result = mode.describe(func, *args, **kwargs)
    if 0 < result.numel() <= _MOST and result.device.type == "cpu":
        result = _with_values(mode, result, func, args, kwargs)
    mode.memory.see(result)
    return result


def _with_values(
    mode: VirtualMode, fake: FakeTensor, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    with mode.memory.hide(), _disable_current_modes():
        real = func(*args, **kwargs)
        known: Tensor = fake.fake_mode.fake_tensor_converter.from_real_tensor(fake.fake_mode, real, make_constant=True)
        return known


KNOWN_NUMBERS: Mapping[OpOverload, Rule] = dict.fromkeys(
    (
        *(aten.arange.default, aten.arange.start, aten.arange.start_step, aten.linspace.default, aten.logspace.default),
        *(aten.full.default, aten.eye.default, aten.eye.m, aten.scalar_tensor.default),
    ),
    counted_out,
)
