"""Forwards without gradients that belong to the training to come, told from those of models that are evaluated."""

import sys
from collections.abc import Callable, Iterable
from traceback import walk_stack
from weakref import WeakKeyDictionary

from torch import nn
from torch.autograd import Function
from torch.optim import Optimizer

from vramscope.recorders.scripts.made_optimizers import parameters_of
from vramscope.recorders.scripts.roots import plain_model

_PATIENCE = 8
"""Forwards of such a model after which no training is waited for any longer: a script may only draw samples from the
average of the weights that its trainer holds."""


class Teachers:
    """Knows, before any optimizer has stepped, whether a forward without gradients begins a training step.

    An optimizer that waits for other parameters than the model's says so: it runs as a teacher or a reference does. One
    that waits for the model's own says that the model is evaluated, and where there is none nothing is trained. But
    within a function of autograd, which computes without gradients what it differentiates itself, as checkpoints and
    adjoint methods do, such a model is being trained.

    Args:
        optimizers: gives those that exist.
    """

    def __init__(self, optimizers: Callable[[], Iterable[Optimizer]]) -> None:
        self._optimizers = optimizers
        self._left: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def teaches(self, module: nn.Module) -> bool:
        """Whether a forward that has just ended is to be part of a training step."""
        model = plain_model(module)
        if _in_function() and any(_shared(model, self._optimizers())):
            return True
        left = self._left.get(model)
        if left is None:
            left = _PATIENCE if _another_is_trained(model, self._optimizers()) else 0
        self._left[model] = max(left - 1, 0)
        return left > 0


def _another_is_trained(model: nn.Module, optimizers: Iterable[Optimizer]) -> bool:
    """Whether optimizers are there, and none for a parameter of the model."""
    waiting = [found for found in optimizers if parameters_of(found)]
    return bool(waiting) and not any(_shared(model, waiting))


def _shared(model: nn.Module, optimizers: Iterable[Optimizer]) -> list[bool]:
    """For each optimizer whether it is there for a parameter of the model."""
    own = {id(parameter) for parameter in model.parameters()}
    return [not own.isdisjoint(parameters_of(found)) for found in optimizers]


def _in_function() -> bool:
    """Whether this thread runs the forward of a function of autograd."""
    return any(frame.f_code is Function.apply.__code__ for frame, _ in walk_stack(sys._getframe(1)))
