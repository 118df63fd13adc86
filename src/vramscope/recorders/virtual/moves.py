"""Tensors that lie in the host's memory, moved to a device: a copy, although fakes of both lie on the same one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from vramscope.recorders.virtual.memory import VirtualMemory


@contextmanager
def moves_seen(memory: VirtualMemory) -> Iterator[None]:
    """Until left, ``tensor.to(device)`` copies what ``memory`` leaves out, such as a tensor over a numpy array.

    A device that is named by a string is the host's own: programs that shall run anywhere hand a device on.
    """
    original = Tensor.to

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = original(tensor, *args, **kwargs)
        if result is not tensor or not memory.leaves_out(tensor):
            return result
        if not isinstance(kwargs.get("device", args[0] if args else None), torch.device | Tensor):
            return result
        return original(tensor, *args, **{**kwargs, "copy": True})

    with mock.patch.object(Tensor, "to", to):
        yield
