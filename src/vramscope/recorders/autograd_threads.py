"""Whose work a thread does: what belongs to a backward pass on a GPU, hooks included, runs on threads of autograd's."""

import sys
from threading import Thread, get_ident, main_thread
from traceback import walk_stack
from types import CodeType, FrameType

import torch

_ENGINE = torch.autograd.graph._engine_run_backward.__code__
"""What a thread runs while it waits for a backward pass."""
_PYTHON_THREAD: CodeType = Thread._bootstrap.__code__  # type: ignore[attr-defined]  # no public name tells such a thread
"""What every thread that Python starts runs first; those of autograd begin with a hook."""


def in_backward() -> bool:
    """Whether this thread works on a backward pass, as where a hook of one runs."""
    return torch._C._current_autograd_node() is not None


def backward_pass() -> int | None:
    """The number of the backward pass that this thread works on, which no other one of the process has."""
    return torch._C._current_graph_task_id() if in_backward() else None


def works_for(thread: int) -> bool:
    """Whether what runs now runs on this thread, or on one of autograd's while it waits for a backward pass.

    Where two threads wait for passes on one GPU at the same time, autograd's works for both, and which of them it is
    for at the moment is not told.
    """
    if get_ident() == thread:
        return True
    if not in_backward() or get_ident() == main_thread().ident or _runs(sys._getframe(), _PYTHON_THREAD):
        return False
    waiting = sys._current_frames().get(thread)
    return waiting is not None and _runs(waiting, _ENGINE)


def _runs(innermost: FrameType, code: CodeType) -> bool:
    return any(frame.f_code is code for frame, _ in walk_stack(innermost))
