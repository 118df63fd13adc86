"""Forwards without gradients that belong to the training to come, told from those of models that are evaluated."""

import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.optim import Optimizer

from vramscope.recorders.scripts.made_optimizers import parameters_of
from vramscope.recorders.scripts.roots import plain_model

_PATIENCE = 8
"""Forwards of such a model after which no training is waited for any longer: a script may only draw samples from the
average of the weights that its trainer holds."""
_REFERENCES = 3
"""To a frame's variables that only the frame keeps, as `sys.getrefcount` counts: its own, ours and the argument."""


class Teachers:
    """Knows, before any optimizer has stepped, whether a forward without gradients begins a training step.

    An optimizer that waits for other parameters than the model's says so: it runs as a teacher or a reference does. One
    that waits for the model's own says that the model is evaluated, and where there is none nothing is trained. But
    within a function of autograd, which computes without gradients what it differentiates itself, as checkpoints and
    adjoint methods do, such a model is being trained; or evaluated, where nothing of the function will be
    differentiated, as in a checkpoint under ``torch.no_grad()``, so that training is waited for a while.

    Args:
        optimizers: gives those that exist.
    """

    def __init__(self, optimizers: Callable[[], Iterable[Optimizer]]) -> None:
        self._optimizers = optimizers
        self._left: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def teaches(self, module: nn.Module) -> bool:
        """Whether a forward that has just ended is to be part of a training step."""
        model = plain_model(module)
        waiting = [found for found in self._optimizers() if parameters_of(found)]
        functions = list(_open_functions()) if waiting else []
        if any(map(_is_differentiated, functions)) and _share_parameters(model, waiting):
            return True
        left = self._left.get(model)
        if left is None:
            left = _PATIENCE if waiting and (functions or not _share_parameters(model, waiting)) else 0
        self._left[model] = max(left - 1, 0)
        return left > 0


def _share_parameters(model: nn.Module, optimizers: Iterable[Optimizer]) -> bool:
    """Whether one of the optimizers is there for a parameter of the model."""
    own = {id(parameter) for parameter in model.parameters()}
    return any(not own.isdisjoint(parameters_of(found)) for found in optimizers)


def _open_functions() -> Iterator[FrameType]:
    """The frames of the forwards of functions of autograd that this thread runs.

    Frame by frame: `traceback.walk_stack` reads line numbers too, which takes ten times as long.
    """
    inner = sys._getframe()
    while (frame := inner.f_back) is not None:
        if frame.f_code is Function.apply.__code__:
            yield inner
        inner = frame


def _is_differentiated(forward: FrameType) -> bool:
    """Whether gradients are to flow through a function of autograd, as far as its forward is given a context."""
    names = forward.f_code.co_varnames
    context = _local(forward, names[0]) if names else None
    return bool(context.next_functions) if isinstance(context, BackwardCFunction) else True


def _local(frame: FrameType, name: str) -> Any:
    """A local variable of a function that runs; keeps nothing alive that the function lets go of later.

    Up to Python 3.12 a frame keeps what it is asked for. Where ``locals()`` was called in it, that is the caller's.
    """
    found = frame.f_locals
    value = found.get(name)
    if type(found) is dict and sys.getrefcount(found) == _REFERENCES:
        found.clear()
    return value
