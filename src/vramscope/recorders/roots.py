"""The models of a script: found at their first forward, by the parameters that an optimizer steps, or as they lie."""

import gc
from collections.abc import Iterable, Iterator
from itertools import chain, count
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class Roots:
    """The outermost models of a script, with the prefix of their paths; kept alive by nobody.

    The first has none; a further one goes by its class, with an ordinal where several share one.
    """

    def __init__(self) -> None:
        self._prefixes: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._given: set[str] = set()
        self._idle: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._parameters: set[int] = set()

    def __iter__(self) -> Iterator[tuple[nn.Module, str]]:
        return iter(list(self._prefixes.items()))

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, module: nn.Module) -> bool:
        return plain_model(module) in self._prefixes

    def path_of(self, module: nn.Module) -> str | None:
        """The prefix of a model that was found, None for any other module."""
        return self._prefixes.get(plain_model(module))

    def idle(self) -> list[tuple[nn.Module, str]]:
        """Models that nobody was seen to run or to train: they were only found to be there."""
        return list(self._idle.items())

    def add_idle(self, module: nn.Module) -> None:
        """Take note of a model that is there, and that nobody has run."""
        prefix = self._free_prefix(type(module).__name__, bare=False)
        self._given.add(prefix)
        self._idle[module] = prefix

    def add(self, module: nn.Module) -> str | None:
        """The prefix of a model that is new and has parameters, None for any other module."""
        model = plain_model(module)
        if model in self._prefixes or next(model.parameters(), None) is None:
            return None
        prefix = self._idle.pop(model, None) or self._free_prefix(type(model).__name__)
        self._given.add(prefix)
        self._prefixes[model] = prefix
        self._parameters.update(map(id, model.parameters()))
        return prefix

    def lacks(self, parameters: Iterable[Tensor]) -> bool:
        """Whether some of the parameters belong to no model found so far."""
        return any(id(parameter) not in self._parameters for parameter in parameters)

    def owners(self, parameters: Iterable[Tensor]) -> list[nn.Module]:
        """The outermost live models that hold parameters of which no model is known; looks at every live object."""
        wanted = {id(parameter) for parameter in parameters} - self._parameters
        return _outermost(module for module, held in _live_models() if not wanted.isdisjoint(held))

    def unknown(self) -> list[nn.Module]:
        """The outermost live models of which no parameter is known; looks at every live object."""
        found = _outermost(module for module, held in _live_models() if self._parameters.isdisjoint(held))
        return [model for model in found if model not in self._idle]

    @property
    def device(self) -> torch.device:
        """Where the first model's parameters are; the CPU before there is one."""
        for model in self._prefixes:
            first = next(model.parameters(), None)
            if first is not None:
                return first.device
        return torch.device("cpu")

    def _free_prefix(self, name: str, bare: bool = True) -> str:
        candidates = chain(("", name) if bare else (name,), (f"{name}_{number}" for number in count(2)))
        return next(prefix for prefix in candidates if prefix not in self._given)


def _live_models() -> Iterator[tuple[nn.Module, set[int]]]:
    """Every live module that has parameters, and their ids; none that is half built or cannot be told from its like."""
    for module in [found for found in gc.get_objects() if issubclass(type(found), nn.Module)]:
        try:
            held = {id(parameter) for parameter in module.parameters()}
        except Exception:  # noqa: BLE001 - whatever a module of the program raises, it is not at work now
            continue
        if held and type(module).__hash__ is not None:
            yield module, held


def _outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Those that are no part of another."""
    found = list(modules)
    inner = {id(child) for module in found for child in module.modules() if child is not module}
    return [module for module in found if id(module) not in inner]


def plain_model(module: nn.Module) -> nn.Module:
    """The model itself where ``torch.compile`` has wrapped it."""
    children = module.__dict__.get("_modules")
    inner = children.get("_orig_mod") if isinstance(children, dict) else None  # TorchScript's is no dict
    return inner if isinstance(inner, nn.Module) else module
