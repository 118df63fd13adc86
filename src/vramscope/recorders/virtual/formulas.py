"""Who called an operator: the program, or a formula of autograd's that the engine runs."""

import sys
from types import FrameType

import torch
from torch.autograd import graph

_NO_TASK = -1
_ENGINE = graph._engine_run_backward
_ON_THE_WAY = ("torch._compile", "torch._dynamo.eval_frame", "vramscope.recorders.", "vramscope.predict.")
"""Modules whose frames lie between who calls an operator and its rule; a backward of ours stands for one of torch's."""


Position = tuple[int, int]
NOWHERE: Position = (_NO_TASK, 0)


def position_of(node: graph.Node) -> Position:
    """In which run of the engine a node is that runs, and which one it is."""
    return torch._C._current_graph_task_id(), node._sequence_nr()


def in_engine() -> bool:
    """Whether the autograd engine is running on this thread."""
    return bool(torch._C._current_graph_task_id() != _NO_TASK)


def in_formula() -> bool:
    """Whether the engine is at work on a formula of torch's own: no Python that it calls, as a checkpoint's does."""
    return in_engine() and calling_frame().f_code is _ENGINE.__code__


def calling_frame() -> FrameType:
    """The Python frame that has called the operator whose rule is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_ON_THE_WAY):
        frame = frame.f_back
    return frame
