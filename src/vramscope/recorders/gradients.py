"""Gradients: labelled one by one as they are accumulated, where they do not outlast their backward pass.

Parameters are known by their ids: torch refuses to swap a tensor that somebody has a weak reference to.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from vramscope.recorders.labels import Label, labels_to_keep
from vramscope.recording.recording import MarkKind

Named = tuple[str, Tensor]
"""A parameter with its name."""


class GradientLives:
    """Learns in a whole step, in which every gradient is told of, which ones outlast every backward pass.

    Being told costs as much as a small module, and what outlasts the pass is found at its end without that. What
    somebody takes meanwhile (an optimizer that steps in a hook, a sharded model that reduces and frees) goes on being
    told of, and so does what is found missing, until it has lasted for another step.
    """

    def __init__(self) -> None:
        self._told: dict[int, StorageWeakRef | None] = {}  # in the backward pass that runs
        self._lasted: set[int] = set()  # in all passes of the step that runs
        self._lasting: set[int] = set()
        self._taken: set[int] = set()

    def lasts(self, parameter: int) -> bool:
        """Whether the gradients of a parameter, given its id, need not be told of."""
        return parameter in self._lasting

    def told(self, parameter: Tensor, gradient: Tensor) -> None:
        """A gradient has just been accumulated, on whichever thread."""
        self._told[id(parameter)] = _storage(gradient)

    def pass_ended(self, parameters: Iterable[Named]) -> list[Named]:
        """A backward pass is over; ``parameters`` are all that are watched.

        Returns:
            those whose gradients were trusted to stay and are not there: taken, or not made by this pass.
        """
        told, self._told = self._told, {}
        missing = []
        for name, parameter in parameters:
            number, gradient = id(parameter), parameter.grad
            if number in told:
                self._judge(number, told[number], gradient)
            elif gradient is None and number in self._lasting:
                self._lasting.remove(number)
                missing.append((name, parameter))
        return missing

    def step_ended(self) -> None:
        """A whole step is over: what outlasted all its backward passes is trusted to go on doing so."""
        self._lasting |= self._lasted - self._told.keys()  # of these a pass goes on, or ended where nobody saw it
        self._lasted.clear()
        self._told = {}

    def _judge(self, number: int, storage: StorageWeakRef | None, gradient: Tensor | None) -> None:
        there = _storage(gradient) if gradient is not None else None
        if storage is None or there is None or there.cdata != storage.cdata:
            self._taken.add(number)
            self._lasted.discard(number)
            self._lasting.discard(number)
        elif number not in self._taken:
            self._lasted.add(number)


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
        self._handles: dict[int, RemovableHandle] = {}  # by the parameter's id
        self._removed = False

    def watch(self, name: str, parameter: Tensor) -> None:
        """Watch a parameter, if it requires a gradient."""
        number = id(parameter)
        if not parameter.requires_grad or not parameter.is_leaf or self._removed or self._lives.lasts(number):
            return
        if number in self._handles:  # of a parameter that is gone, or under another name
            self._handles[number].remove()
        self._handles[number] = parameter.register_post_accumulate_grad_hook(partial(self._accumulated, name))

    def pass_ended(self, parameters: Iterable[Named]) -> None:
        """A backward pass is over: find out whose gradients have to be told of again."""
        try:
            for name, parameter in self._lives.pass_ended(parameters):
                self.watch(name, parameter)
        except Exception as error:  # noqa: BLE001 - objects of the program may raise anything, and it must not meet that
            self._on_error(error)

    def step_ended(self) -> None:
        """A whole step has been seen: of the gradients that lasted in it none need be told of any more."""
        self._lives.step_ended()
        for number in [number for number in self._handles if self._lives.lasts(number)]:
            self._handles.pop(number).remove()

    def remove(self) -> None:
        """Take the hooks off the parameters, for good."""
        self._removed = True
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _accumulated(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:  # another hook has taken it
            return
        try:
            batch = labels_to_keep(MarkKind.GRADIENT, name, gradient, name)
            self._lives.told(parameter, gradient)
        except Exception as error:  # noqa: BLE001 - as above
            self._on_error(error)
        else:
            self._on_labels(batch)


def _storage(gradient: Tensor) -> StorageWeakRef | None:
    """Where a gradient's memory is; None for one that has no single place (sparse, wrapped).

    The reference keeps the storage's place, though not its memory: no other storage can be there meanwhile.
    """
    if type(gradient) is not Tensor:
        return None
    try:
        return StorageWeakRef(gradient.untyped_storage())
    except NotImplementedError:
        return None
