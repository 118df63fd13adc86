"""Where a training step ends when several optimizers take turns: the cycle in which they step, learnt by watching."""

import gc
from collections.abc import Iterable
from weakref import ref

from torch.optim import Optimizer

_LOOKS = 16
"""How often in a row an optimizer that takes the place of one before must have been found alone, until that is taken to
be so: to look takes a tenth of a second."""
_PATIENCE = 8
"""Steps of one optimizer alone after which others that exist are not waited for any longer."""


class OptimizerCycle:
    """Knows after which optimizer step a training step is over.

    With one optimizer every step of it is one. With several, such as a GAN's two, the cycle is what happens until the
    first one steps again after another one did; its last optimizer ends the training step.
    """

    def __init__(self) -> None:
        self._cycle: tuple[int, ...] = ()
        self._seen: list[int] = []
        self._place = 0
        self._alive: dict[int, ref[Optimizer]] = {}
        self._alone = 0

    def stepped(self, optimizer: Optimizer) -> bool:
        """Take note of a finished optimizer step; true if it ends a training step."""
        number = self._number(optimizer)
        if not self._cycle:
            return self._learn(number, optimizer, ())
        expected = self._cycle[self._place]
        if number == expected:
            self._place = (self._place + 1) % len(self._cycle)
            return self._place == 0
        if number not in self._cycle:
            return self._relearn(number, optimizer)
        if number == self._cycle[0]:  # a cycle was cut short: begin again with this step
            self._place = 1 % len(self._cycle)
        return False

    def _learn(self, number: int, optimizer: Optimizer, before: Iterable[int]) -> bool:
        """Watch on; ``before`` are those of the cycle that was known before this optimizer came."""
        first = not self._seen
        if first and self._is_alone(optimizer, before):
            self._cycle = (number,)
            return True
        repeats = not first and number == self._seen[0] and any(other != number for other in self._seen)
        if repeats:
            self._cycle, self._place = tuple(self._seen), 1
            return False
        self._seen.append(number)
        if len(self._seen) >= _PATIENCE and set(self._seen) == {number}:
            self._cycle = (number,)
            return True
        return False

    def _relearn(self, number: int, optimizer: Optimizer) -> bool:
        """An optimizer that was not there before: learn anew from here, at once where it took the others' place."""
        before, self._cycle, self._seen, self._place = self._cycle, (), [], 0
        return self._learn(number, optimizer, before)

    def _is_alone(self, optimizer: Optimizer, before: Iterable[int]) -> bool:
        """Whether no other is there to wait for; where that was so many times, whether those before are gone."""
        if self._alone >= _LOOKS:
            return all(self._alive[number]() is None for number in before)
        is_alone = not _others(optimizer)
        self._alone = self._alone + 1 if is_alone else 0
        return is_alone

    def _number(self, optimizer: Optimizer) -> int:
        """An optimizer's number, the same for as long as it lives."""
        known = self._alive.get(id(optimizer))
        if known is None or known() is not optimizer:
            self._alive[id(optimizer)] = ref(optimizer)
        return id(optimizer)


def _others(optimizer: Optimizer) -> bool:
    """Whether the program holds another optimizer, one with parameters of its own: wrappers share their parameters."""
    if not _has_others(optimizer):
        return False
    gc.collect()  # they may be of an earlier training, which nobody has any more
    return _has_others(optimizer)


def _has_others(optimizer: Optimizer) -> bool:
    own = _parameters(optimizer)
    candidates = [found for found in gc.get_objects() if type(found) is not type and _is_optimizer(found)]
    return any(found is not optimizer and _parameters(found) - own for found in candidates)


def _is_optimizer(thing: object) -> bool:
    return issubclass(type(thing), Optimizer)  # by its type: asking some objects for their class runs their code


def _parameters(optimizer: Optimizer) -> set[int]:
    groups = getattr(optimizer, "param_groups", ())
    return {id(parameter) for group in groups for parameter in group.get("params", ())}
