"""Operators of torch's own whose kernels are written in Python, such as a cross entropy in chunks of the batch."""

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from torch._library.custom_ops import OPDEFS
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode

_NAMESPACE = "torch_nn::"


def python_kernels() -> Mapping[OpOverload, Rule]:
    """A rule for each: its kernel runs on fake tensors, where torch's own fake knows only the result.

    Source: torch/nn/modules/linear_cross_entropy.py, since torch 2.13.
    """
    with suppress(ImportError):  # of torch before 2.13; some versions load it as it is called for the first time
        import_module("torch.nn.modules.linear_cross_entropy")
    return {found._opoverload: in_python for name, found in OPDEFS.items() if name.startswith(_NAMESPACE)}


def in_python(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run the kernel, whose operators are seen one by one."""
    with mode:
        return OPDEFS[func.name().partition(".")[0]]._init_fn(*args, **kwargs)
