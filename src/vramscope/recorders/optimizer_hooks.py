"""Hooks that tell a recorder when optimizer steps begin and end, whichever optimizer's they are."""

import sys
from collections.abc import Callable
from functools import partial
from threading import RLock
from types import FrameType
from typing import Any

from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.optim.optimizer import (
    _global_optimizer_post_hooks,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

_BeforeStep = Callable[[Optimizer, FrameType], None]
_AfterStep = Callable[[Optimizer], None]


class OptimizerHooks:
    """Calls back around every optimizer step of the process, one at a time: several GPUs have a thread each.

    Args:
        before: called with the optimizer and the frame that runs for as long as the step.
        after: called with the optimizer.
        compiled: whether to tell of steps that are compiled, which are so in more pieces then.
    """

    def __init__(self, before: _BeforeStep, after: _AfterStep, compiled: bool = True) -> None:
        one_at_a_time = RLock()

        def before_step(optimizer: Optimizer, caller: FrameType) -> None:
            with one_at_a_time:
                before(optimizer, caller)

        def after_step(optimizer: Optimizer) -> None:
            with one_at_a_time:
                after(optimizer)

        if compiled:
            before_handle = register_optimizer_step_pre_hook(lambda one, *_: before_step(one, sys._getframe(1)))
            after_handle = register_optimizer_step_post_hook(lambda one, *_: after_step(one))
            self._undo = [before_handle.remove, after_handle.remove]
        else:
            self._undo = [_eager_steps.tell(before_step, after_step)]

    def remove(self) -> None:
        """Take the hooks away."""
        for undo in self._undo:
            undo()


class _EagerSteps:
    """One pair of hooks for all who are told of eager steps alone: where hooks come and go, torch compiles again.

    Torch's hooks for all optimizers are the process's own, and so is this. Whoever comes is told of a step's end after
    the hooks that the program has by then, which are part of the step.
    """

    def __init__(self) -> None:
        self._told: list[tuple[_BeforeStep, _AfterStep]] = []
        self._handles: list[RemovableHandle] = []

    def tell(self, before: _BeforeStep, after: _AfterStep) -> Callable[[], None]:
        """Call two more functions around each step, until what is given back is called."""
        pair = before, after
        if not self._told:
            self._handles = [
                register_optimizer_step_pre_hook(self._before),
                register_optimizer_step_post_hook(self._after),
            ]
        _go_last(self._handles[1], _global_optimizer_post_hooks)
        self._told = [*self._told, pair]
        return partial(self._tell_no_more, pair)

    def _tell_no_more(self, pair: tuple[_BeforeStep, _AfterStep]) -> None:
        self._told = [other for other in self._told if other is not pair]  # a new list: who reads the old one goes on
        if not self._told:
            for handle in self._handles:
                handle.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not is_dynamo_compiling():
            caller = sys._getframe(1)
            for before, _ in self._told:
                before(optimizer, caller)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not is_dynamo_compiling():
            for _, after in self._told:
                after(optimizer)


def _go_last(handle: RemovableHandle, hooks: dict[int, Any]) -> None:
    if handle.id in hooks and next(reversed(hooks)) != handle.id:
        hooks[handle.id] = hooks.pop(handle.id)


_eager_steps = _EagerSteps()
