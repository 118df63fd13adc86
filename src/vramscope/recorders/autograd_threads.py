"""Whose work a thread does: what belongs to a backward pass on a GPU, hooks included, runs on threads of autograd's."""

import sys
from collections.abc import Iterator
from threading import Thread, get_ident, main_thread
from types import CodeType, FrameType

import torch

_ENGINE = torch.autograd.graph._engine_run_backward.__code__
"""What a thread runs while it waits for a backward pass."""
_PYTHON_THREAD: CodeType = Thread._bootstrap.__code__  # type: ignore[attr-defined]  # no public name tells such a thread
"""What every thread that Python starts runs first; those of autograd begin with a hook."""


def works_for(thread: int) -> bool:
    """Whether what runs now runs on this thread, or on one of autograd's while it waits for a backward pass.

    Where two threads wait for passes on one GPU at the same time, autograd's works for both, and which of them it is
    for at the moment is not told.
    """
    if get_ident() == thread:
        return True
    if torch._C._current_autograd_node() is None or get_ident() == main_thread().ident:
        return False
    if any(frame.f_code is _PYTHON_THREAD for frame in _frames(sys._getframe())):
        return False
    return any(frame.f_code is _ENGINE for frame in _frames(sys._current_frames().get(thread)))


def _frames(innermost: FrameType | None) -> Iterator[FrameType]:
    frame = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back
