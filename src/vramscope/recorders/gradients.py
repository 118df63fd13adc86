"""Gradients: labelled one by one as they are accumulated, where they do not outlast their backward pass."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple
from weakref import ref

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from vramscope.recorders.labels import Label, labels_of_gradient

_Told = tuple[ref[Tensor], StorageWeakRef | None]
"""A parameter, and where its gradient was when it was told of."""


class PassEnd(NamedTuple):
    """How a backward pass left the gradients of the parameters that are watched."""

    known: int
    """Of how many parameters gradients are there, or were told of."""
    missing: list[Tensor]
    """Parameters whose gradients, trusted to stay, are not there: taken, or not made by this pass."""


class GradientLives:
    """Learns in a whole step, in which every gradient is told of, which ones outlast every backward pass.

    Being told costs as much as a small module, and what outlasts the pass is found at its end without that. What
    somebody takes meanwhile (an optimizer that steps in a hook, a sharded model that reduces and frees) goes on being
    told of, and so does what is ever found missing.
    """

    def __init__(self) -> None:
        self._told: dict[int, _Told] = {}  # in the backward pass that runs
        self._lasted: dict[int, ref[Tensor]] = {}  # in all passes of the step that runs
        self._lasting: dict[int, ref[Tensor]] = {}
        self._taken: dict[int, ref[Tensor]] = {}

    def lasts(self, parameter: Tensor) -> bool:
        """Whether a parameter's gradients need not be told of."""
        return _holds(self._lasting, parameter)

    def told(self, parameter: Tensor, gradient: Tensor) -> None:
        """A gradient has just been accumulated."""
        self._told[id(parameter)] = ref(parameter), _storage(gradient)

    def pass_ended(self, parameters: Iterable[Tensor]) -> PassEnd:
        """A backward pass is over; ``parameters`` are all that are watched. Those it misses are told of from now on."""
        known, missing = 0, []
        for parameter in parameters:
            if parameter.grad is not None or id(parameter) in self._told:
                known += 1
            elif self.lasts(parameter):
                missing.append(parameter)
        for parameter in missing:
            self._take(parameter)
        for weak, storage in self._told.values():
            told = weak()
            if told is not None:
                self._judge(told, storage)
        self._told.clear()
        return PassEnd(known, missing)

    def step_ended(self) -> None:
        """A whole step is over: what outlasted all its backward passes is trusted to go on doing so."""
        self._lasting.update(self._lasted)
        self._lasted.clear()
        self._told.clear()  # by a backward pass whose end nobody saw

    def _judge(self, parameter: Tensor, storage: StorageWeakRef | None) -> None:
        gradient = parameter.grad
        there = _storage(gradient) if gradient is not None else None
        if storage is None or there is None or storage.expired() or there.cdata != storage.cdata:
            self._take(parameter)
        elif not _holds(self._taken, parameter):
            self._lasted[id(parameter)] = ref(parameter)

    def _take(self, parameter: Tensor) -> None:
        self._taken[id(parameter)] = ref(parameter)
        self._lasted.pop(id(parameter), None)
        self._lasting.pop(id(parameter), None)


class GradientWatch:
    """Labels watched parameters' gradients as soon as they are accumulated, but for those that last.

    Args:
        lives: what is known so far of gradients that last.
        on_labels: takes the labels of one gradient, which are true now.
        on_error: takes what a program's own object raised when it was looked at.
    """

    def __init__(
        self,
        lives: GradientLives,
        on_labels: Callable[[Sequence[Label]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._lives = lives
        self._on_labels = on_labels
        self._on_error = on_error
        self._handles: list[tuple[ref[Tensor], RemovableHandle]] = []
        self._known = 0  # over all backward passes
        self._missing: list[str] = []

    def watch(self, name: str, parameter: Tensor) -> None:
        """Watch a parameter, if it requires a gradient."""
        if parameter.requires_grad and parameter.is_leaf and not self._lives.lasts(parameter):
            handle = parameter.register_post_accumulate_grad_hook(partial(self._accumulated, name))
            self._handles.append((ref(parameter), handle))

    def pass_ended(self, parameters: Iterable[Tensor], name_of: Callable[[Tensor], str]) -> None:
        """A backward pass is over, and the gradients that are there have been labelled: find out whose are not."""
        try:
            known, missing = self._lives.pass_ended(parameters)
        except Exception as error:  # noqa: BLE001 - objects of the program may raise anything, and it must not meet that
            self._on_error(error)
            return
        self._known += known
        for parameter in missing:
            name = name_of(parameter)
            self._missing.append(name)
            self.watch(name, parameter)

    def step_ended(self) -> None:
        """A whole step has been seen: of the gradients that lasted in it none need be told of any more."""
        self._lives.step_ended()
        watched, self._handles = self._handles, []
        for weak, handle in watched:
            parameter = weak()
            if parameter is None or self._lives.lasts(parameter):
                handle.remove()
            else:
                self._handles.append((weak, handle))

    def remarks(self, accumulations: int) -> list[str]:
        """What the reader should know of labels that are missing, where autograd accumulated so many gradients."""
        if not self._missing or accumulations <= self._known:
            return []
        return [
            f"gradients that had stayed until their backward pass was over were gone before that, {self._missing[0]}'s "
            "first: those that something else went on holding count as activation_gradients"
        ]

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for _, handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _accumulated(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:  # another hook has taken it
            return
        try:
            batch = labels_of_gradient(name, gradient)
            self._lives.told(parameter, gradient)
        except Exception as error:  # noqa: BLE001 - as above
            self._on_error(error)
        else:
            self._on_labels(batch)


def _holds(parameters: dict[int, ref[Tensor]], parameter: Tensor) -> bool:
    known = parameters.get(id(parameter))
    return known is not None and known() is parameter


def _storage(gradient: Tensor) -> StorageWeakRef | None:
    """Where a gradient's memory is; None for one that has no single place (sparse, wrapped)."""
    if type(gradient) is not Tensor:
        return None
    try:
        return StorageWeakRef(gradient.untyped_storage())
    except NotImplementedError:
        return None
