"""Where a training step ends when several optimizers take turns: the cycle in which they step, learnt by watching."""

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakSet, ref

from torch.optim import Optimizer

from vramscope.recorders.scripts.made_optimizers import parameters_of

_PATIENCE = 8
"""Steps of one optimizer alone after which others that exist are not waited for any longer."""
_LONGEST = 128
"""Steps within which optimizers must have begun to repeat themselves, besides one of each: the first rounds of a WGAN
have 100 of the critic for one of the generator (main.py of github.com/martinarjovsky/WassersteinGAN)."""
_MISFITS = 4
"""How often the steps may fall out of a learnt cycle until it is given up."""
_HELD = 4
"""How often in a row a cycle must have come as it was learnt to count as right, whatever was before."""
_TRIES = 2
"""Learnt cycles that are given up, one after another, until the optimizers are taken to have none."""
_COLLECTIONS = 16
"""How often in all Python's garbage is collected to learn whether others are alive: it takes a tenth of a second."""

_Member = ref[Optimizer]


class OptimizerCycle:
    """Knows after which optimizer step a training step is over.

    With one optimizer every step of it is one. With several, such as a GAN's two, the cycle is what happens until the
    first one steps again after another one did; its last optimizer ends the training step. One that steps for the
    first time while nobody else is still to come takes the place of those before at once.

    A training step never stays open for ever. In a learnt cycle, turns may be left out and runs of one optimizer may
    be longer or shorter; where steps keep falling out of it, another is learnt, and where that does not hold either, or
    nothing repeats itself for long, every optimizer step ends a training step from then on.

    Args:
        alive: gives the optimizers that exist.
    """

    def __init__(self, alive: Callable[[], Iterable[Optimizer]]) -> None:
        self._alive = alive
        self._stepped: WeakSet[Optimizer] = WeakSet()
        self._given_up_on: WeakSet[Optimizer] = WeakSet()  # waited for in vain
        self._collections = 0
        self._last: _Member | None = None
        self._run = 0  # steps of the last one in a row
        self._latest: deque[_Member] = deque(maxlen=_LONGEST)
        self._alone: deque[_Member] = deque(maxlen=_LONGEST)  # the latest steps that each ended a training step
        # while a cycle is learnt
        self._seen: list[_Member] = []
        self._watched = 0
        self._most = 0
        self._begins_within_run = False
        # once it is known
        self._cycle: tuple[_Member, ...] = ()
        self._place = 0
        self._open = 0  # steps since it was over the last time
        self._misfits = 0
        self._held = 0
        self._tries = 0
        self.is_irregular = False
        """Whether no cycle was found, so that every step ends a training step."""
        self.steps: Counter[str] = Counter()
        """How many steps there were, by the optimizer's class."""
        self.awaited: list[str] = []
        """The classes of those that exist, have not stepped and are waited for."""

    def stepped(self, optimizer: Optimizer) -> bool:
        """Take note of a finished optimizer step; true if it ends a training step."""
        name, is_new = type(optimizer).__name__, optimizer not in self._stepped
        self._stepped.add(optimizer)
        self.steps[name] += 1
        if is_new and name in self.awaited:
            self.awaited.remove(name)
        member = ref(optimizer)
        self._latest.append(member)
        ends = self._ends(member, is_new)
        self._run = self._run + 1 if member == self._last else 1
        self._last = member
        if len(self._cycle) == 1:
            self._alone.append(member)
        return ends

    def stepped_elsewhere(self, optimizer: Optimizer) -> None:
        """Take note of a step on a thread that is not recorded: this optimizer is not waited for."""
        self._stepped.add(optimizer)

    def _ends(self, member: _Member, is_new: bool) -> bool:
        if self.is_irregular:
            return True
        if not self._cycle:
            return self._learn(member)
        if member == self._cycle[self._place] or member in self._cycle:
            return self._follow(member)
        return self._begin(member) if is_new else self._leave(member)

    # -- a cycle that is learnt -------------------------------------------------------------------------------------

    def _begin(self, member: _Member) -> bool:
        """Learn from here; where nobody else is to come, that is all there is to it."""
        self._cycle, self._seen, self._begins_within_run = (), [member], False
        self.awaited = self._others(member)
        if not self.awaited:
            return self._know((member,))
        self._watched += 1
        return self._decide(member)

    def _learn(self, member: _Member) -> bool:
        if not self._seen or self._seen[0]() is None:  # one that is gone does not step again
            return self._begin(member)
        self._watched += 1
        if self._begins_within_run and member != self._seen[0]:
            self._seen, self._begins_within_run = [], False
        if self._repeats(member):
            self._know(self._seen, place=1)
            return False
        self._seen.append(member)
        return self._decide(member)

    def _repeats(self, member: _Member) -> bool:
        return bool(self._seen) and member == self._seen[0] and any(other != member for other in self._seen)

    def _decide(self, member: _Member) -> bool:
        """Whether enough was seen: one alone, or too many steps without the first one again."""
        self._most = self._most or _LONGEST + len(list(self._alive()))
        if self._watched >= _PATIENCE and all(other == member for other in self._seen):
            self._given_up_on.update(self._alive())
            self._alone.extend(self._seen[:-1])
            return self._know((member,))
        if self._watched < self._most:
            return False
        period = _period(self._seen)
        return self._know(period) if period else self._step_singly()

    def _know(self, cycle: Sequence[_Member], place: int = 0) -> bool:
        """Go by this cycle from now on, of which so many steps were taken; true if it is over."""
        self._cycle, self._place, self._open = tuple(cycle), place, place
        self._misfits = self._held = self._watched = self._most = 0
        self.awaited, self._seen = [], []
        if len(cycle) > 1:
            self._alone.clear()
        return place == 0

    def _step_singly(self) -> bool:
        self.is_irregular = True
        self._cycle, self._seen, self.awaited = (), [], []
        return True

    # -- a cycle that is known --------------------------------------------------------------------------------------

    def _follow(self, member: _Member) -> bool:
        """Find the place of a step: turns that were left out are passed over, one that goes on stays where it is."""
        cycle, place = self._cycle, self._place
        self._open += 1
        goes_on = member == cycle[place - 1]
        if member == cycle[place] or (not goes_on and member in cycle[place:]):
            self._place = (cycle.index(member, place) + 1) % len(cycle)
            return self._is_over() if self._place == 0 else False
        if not goes_on:
            self._misfits, self._held = self._misfits + 1, 0
            if member == cycle[0]:  # the cycle was cut short: begin again with this step
                self._place = 1
        # a cycle that was cut short at its end, one more, and some
        lasts = self._open > 2 * len(cycle) + _PATIENCE
        return self._give_up(member) if lasts or self._misfits > _MISFITS else False

    def _is_over(self) -> bool:
        self._open, self._held = 0, self._held + 1
        if self._held >= _HELD and len(self._cycle) > 1:
            self._misfits = self._tries = 0
        return True

    def _leave(self, member: _Member) -> bool:
        """One from before steps again: what newcomers did, who took a place at once, is the beginning of a cycle."""
        if len(self._cycle) > 1 or self._run >= _PATIENCE:
            return self._give_up(member)
        before = [other for other in self._alone if other() is not None]
        before = before[before.index(member) :] if member in before else before[-self._run :]
        if all(other == member for other in before):
            return self._begin(member)
        self._cycle, self._seen, self._begins_within_run = (), before, False
        return self._learn(member)

    def _give_up(self, member: _Member) -> bool:
        """Learn another cycle, from where the next optimizer's turn begins; the second time there is none."""
        self._tries += 1
        if self._tries >= _TRIES:
            period = _period(tuple(self._latest))  # as where the first one steps twice in every round
            return self._know(period) if len(period) > 1 else self._step_singly()
        self._cycle, self._seen, self._watched = (), [member], 1
        self._begins_within_run = member == self._last
        return False

    # -- others -----------------------------------------------------------------------------------------------------

    def _others(self, member: _Member) -> list[str]:
        """The classes of those that are still to step, as far as they have parameters of their own, unlike wrappers."""
        others = self._unstepped(member)
        if others and self._collections < _COLLECTIONS:
            self._collections += 1
            gc.collect()  # they may be of an earlier training, which nobody has any more
            others = self._unstepped(member)
        return others

    def _unstepped(self, member: _Member) -> list[str]:
        own = parameters_of(member())
        known = (self._stepped, self._given_up_on)
        others = (other for other in self._alive() if not any(other in some for some in known))
        return [type(other).__name__ for other in others if parameters_of(other) - own]


def _period(seen: Sequence[_Member]) -> Sequence[_Member]:
    """What has repeated itself at least twice and fills the latter half of what was seen; empty if nothing does."""
    latter = seen[len(seen) // 2 :]
    for length in range(1, len(latter) // 2 + 1):
        if latter[length:] == latter[:-length]:
            return latter[-length:]
    return ()
