"""Whose work a thread does: what belongs to a backward pass on a GPU, hooks included, runs on threads of autograd's."""

import sys
from threading import get_ident
from types import FrameType

import torch

_ENGINE = torch.autograd.graph._engine_run_backward.__code__
"""What a thread runs while it waits for a backward pass."""


def works_for(thread: int) -> bool:
    """Whether what runs now runs on this thread, or on one of autograd's for a backward pass that it waits for."""
    if get_ident() == thread:
        return True
    if torch._C._current_autograd_node() is None:
        return False
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is _ENGINE:
            return True
        frame = frame.f_back
    return False
