"""The optimizers that a program has made, known from when they are made on."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from weakref import ref

from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from vramscope.recorders.scripts.surroundings import replace_attribute


def parameters_of(optimizer: Optimizer | None) -> set[int]:
    """An optimizer's parameters, by their identity; none where it is half built, or gone."""
    groups = getattr(optimizer, "param_groups", ())
    return {id(parameter) for group in groups for parameter in group.get("params", ())}


class MadeOptimizers:
    """Every optimizer of this process that is alive and was made since, on whatever thread; kept alive by nobody.

    ``Optimizer._patch_step_function`` runs in ``__init__`` and in ``__setstate__``, that is for what is made, copied or
    unpickled (torch/optim/optimizer.py, the same from 2.11 to 2.13). It puts torch's hooks around ``step``, so that
    whoever passes it by tells of no step either; and it is no part of a step, so that compiled ones never meet it. To
    look through all objects instead takes 0.2 s each time.
    """

    def __init__(self, undo: ExitStack) -> None:
        self._made: dict[int, ref[Optimizer]] = {}
        replace_attribute(undo, Optimizer, "_patch_step_function", self._making)

    def alive(self) -> list[Optimizer]:
        """Those that are alive; some may be garbage that Python has not collected yet."""
        references = list(self._made.values())  # at once: other threads make optimizers too
        return [optimizer for reference in references if (optimizer := reference()) is not None]

    def _making(self, original: Callable[..., None]) -> Callable[..., None]:
        def make(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            if not is_dynamo_compiling():
                self._add(optimizer)
            original(optimizer, *args, **kwargs)

        return make

    def _add(self, optimizer: Optimizer) -> None:
        place = id(optimizer)  # free again for another one only after the reference has told of the end
        self._made[place] = ref(optimizer, lambda _: self._made.pop(place, None))
