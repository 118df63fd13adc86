"""Parameters that an optimizer holds and no known model: points of a scene, an image, a temperature.

They go by the optimizer's class and by their place in it: ``Adam.param_groups[0][2]``.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from weakref import ref

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from vramscope.recorders.labels import Label, label_gradients, label_optimizer_state, label_tensor
from vramscope.recording.recording import MarkKind

Place = tuple[int, int]
"""The number of a parameter's group, and its own in the group."""


class OptimizerNames:
    """Names of optimizers by their classes, with an ordinal where several that live share one; keeps nothing alive."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[ref[Optimizer], str]] = {}  # by id: some cannot be hashed

    def others(self, optimizer: Optimizer, is_known: Callable[[Tensor], object]) -> Iterator[tuple[str, Place, Tensor]]:
        """Name, place and tensor of each parameter that is not known by another name."""
        for number, group in enumerate(optimizer.param_groups):
            for index, parameter in enumerate(group["params"]):
                if isinstance(parameter, Tensor) and not is_lazy(parameter) and not is_known(parameter):
                    yield f"{self._name(optimizer)}.param_groups[{number}][{index}]", (number, index), parameter

    def label(self, optimizers: Iterable[Optimizer], names: dict[int, str]) -> Iterator[Label]:
        """Labels for what optimizers hold: states, and parameters with gradients that are not among ``names`` yet.

        Args:
            optimizers: in the order in which they were found.
            names: those of the models' parameters, by id; what is named here is added.
        """
        for optimizer in optimizers:
            own = [(name, one) for name, _, one in self.others(optimizer, lambda one: id(one) in names)]
            names.update((id(parameter), name) for name, parameter in own)
            for name, parameter in own:
                yield from label_tensor(MarkKind.PARAMETER, name, parameter)
            yield from label_gradients(own)
            yield from label_optimizer_state(optimizer, lambda parameter: names.get(id(parameter), ""))

    def _name(self, optimizer: Optimizer) -> str:
        known = self._names.get(id(optimizer))
        if known is not None and known[0]() is optimizer:
            return known[1]
        self._names = {number: named for number, named in self._names.items() if named[0]() is not None}
        taken = {name for _, name in self._names.values()}
        name = type(optimizer).__name__
        candidates = chain((name,), (f"{name}_{number}" for number in count(2)))
        chosen = next(free for free in candidates if free not in taken)
        self._names[id(optimizer)] = ref(optimizer), chosen
        return chosen


def parameter_at(optimizer: Optimizer, place: Place) -> Tensor | None:
    """The parameter at a place of an optimizer, None where there is none any more."""
    group, index = place
    try:
        held = optimizer.param_groups[group]["params"][index]
    except IndexError:
        return None
    return held if isinstance(held, Tensor) else None
