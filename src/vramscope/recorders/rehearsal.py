"""The step before a window: watched only for which gradients last, so that recorded steps need not be told of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vramscope.recorders.gradients import GradientLives, GradientWatch
from vramscope.recorders.hooks import BackwardHook, remove_all


class Rehearsal:
    """Sees the backward passes of one step, of the models that are known by then, and records nothing."""

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._thread = get_ident()
        self._parameters: list[ref[Tensor]] = []
        self._lives = GradientLives()
        self._watch = GradientWatch(self._lives, lambda labels: None, lambda error: None)
        self._passes = BackwardHook(self._around_backward)
        for model in models:
            self.watch(model)

    def watch(self, model: nn.Module) -> None:
        """Look at one more model."""
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter):
                self._parameters.append(ref(parameter))
                self._watch.watch(name, parameter)

    def step_ended(self) -> GradientLives:
        """The step is over: what it has shown."""
        self._lives.step_ended()
        self.stop()
        return self._lives

    def stop(self) -> None:
        """Take the hooks away."""
        remove_all([self._watch, self._passes])

    @contextmanager
    def _around_backward(self, roots: Iterable[Tensor], builds_graph: bool) -> Iterator[None]:
        try:
            yield
        finally:
            if get_ident() == self._thread and torch._C._current_autograd_node() is None:
                alive = [parameter for parameter in (weak() for weak in self._parameters) if parameter is not None]
                self._watch.pass_ended(alive, lambda parameter: "")
