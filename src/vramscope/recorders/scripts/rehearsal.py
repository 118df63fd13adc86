"""The step before a window: watched only for which gradients last, so that recorded steps need not be told of them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from weakref import WeakSet

from torch import nn
from torch.nn.parameter import is_lazy

from vramscope.recorders.autograd_threads import in_backward
from vramscope.recorders.gradients import GradientLives, GradientWatch
from vramscope.recorders.hooks import BackwardHook, BackwardPass, remove_all


class Rehearsal:
    """Sees the backward passes of one step, of the models that are known by then, and records nothing.

    Args:
        models: those that are known already.
        on_left: is told whenever a pass is over, also one in which the step has ended.
    """

    def __init__(self, models: Iterable[nn.Module], on_left: Callable[[], None]) -> None:
        self._on_left = on_left
        self._thread = get_ident()
        self._models: WeakSet[nn.Module] = WeakSet()
        self._lives = GradientLives()
        self._watch = GradientWatch(self._lives, lambda labels: None, lambda error: None)
        self._passes = BackwardHook(self._around_backward)
        self._is_over = False
        for model in models:
            self.watch(model)

    def watch(self, model: nn.Module) -> None:
        """Look at one more model."""
        self._models.add(model)
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter):
                self._watch.watch(name, parameter)

    def step_ended(self) -> GradientLives:
        """The step is over: what it has shown."""
        self._lives.step_ended()
        self.stop()
        return self._lives

    def stop(self) -> None:
        """Take the hooks away, and mind no pass that goes on."""
        self._is_over = True
        remove_all([self._watch, self._passes])

    @contextmanager
    def _around_backward(self, backward: BackwardPass) -> Iterator[None]:
        try:
            yield
        finally:
            if get_ident() == self._thread and not in_backward():
                if backward.accumulates and not self._is_over:
                    self._watch.pass_ended(named for model in list(self._models) for named in model.named_parameters())
                self._on_left()
