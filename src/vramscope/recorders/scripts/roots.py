"""The models of a script: found at their first forward, by the parameters that an optimizer steps, or as they lie."""

import gc
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

_FIRST = ""
"""The prefix of the first model."""


class Roots:
    """The outermost models of a script, with the prefix of their paths; kept alive by nobody.

    The first has none; a further one goes by its class, with an ordinal where several share one. What is called and
    lies inside a known model is no model of its own, as long as that lives; one that was called before what holds it
    gives way, and leaves it its place where that was the first.
    """

    def __init__(self) -> None:
        self._prefixes: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()
        """Of all that were called from outside any other; None for a part, which needs none while its model lives."""
        self._holders: WeakKeyDictionary[nn.Module, ref[nn.Module]] = WeakKeyDictionary()
        """Of parts, the models that they were found inside."""
        self._given: set[str] = set()
        self._idle: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._parameters: set[int] = set()
        self.found = 0
        """How many there ever were."""

    def __iter__(self) -> Iterator[tuple[nn.Module, str]]:
        called = [model for model in list(self._prefixes) if self._holder(model) is None]
        named = [(model, self._prefix(model)) for model in called]
        return iter(sorted(named, key=lambda item: item[1] != _FIRST))

    def __contains__(self, module: nn.Module) -> bool:
        """Whether it was called from outside any other, be it a model or a part of one."""
        return plain_model(module) in self._prefixes

    def called(self) -> list[nn.Module]:
        """Models, and those of their parts that were called from outside any other."""
        return list(self._prefixes)

    def _holder(self, model: nn.Module) -> nn.Module | None:
        weak = self._holders.get(model)
        return None if weak is None else weak()

    def _prefix(self, model: nn.Module) -> str:
        """That of a model; one that was a part until its model was gone gets its own now."""
        prefix = self._prefixes[model]
        if prefix is None:
            prefix = self._prefixes[model] = self._free_prefix(type(model).__name__)
            self._given.add(prefix)
        return prefix

    def idle(self) -> list[tuple[nn.Module, str]]:
        """Models that nobody was seen to run or to train: they were only found to be there."""
        return list(self._idle.items())

    def add_idle(self, module: nn.Module) -> str:
        """Take note of a model that is there, and that nobody has run; gives its prefix."""
        prefix = self._free_prefix(type(module).__name__, bare=False)
        self._given.add(prefix)
        self._idle[module] = prefix
        return prefix

    def add(self, module: nn.Module) -> str | None:
        """The prefix of a model that is new and has parameters, None for any other module."""
        model = plain_model(module)
        if model in self._prefixes or next(model.parameters(), None) is None:
            return None
        holder = self._around(model)
        if holder is not None:
            self._prefixes[model], self._holders[model] = None, ref(holder)
            return None
        left = self._left_by_parts(model)
        prefix = self._idle.pop(model, None) or (_FIRST if left else self._free_prefix(type(model).__name__))
        self._given.add(prefix)
        self._prefixes[model] = prefix
        self.found += 1
        self._parameters.update(map(id, model.parameters()))
        return prefix

    def _around(self, model: nn.Module) -> nn.Module | None:
        """The known model that a module is inside of."""
        if self.lacks(model.parameters()):
            return None
        return next((root for root, _ in self if any(part is model for part in _parts(root))), None)

    def _left_by_parts(self, model: nn.Module) -> bool:
        """Have models that turn out to be parts of a new one give way to it; whether the first is among them."""
        parts = {id(part) for part in _parts(model)}
        inside = [(root, prefix) for root, prefix in self if id(root) in parts]
        self._holders.update((root, ref(model)) for root, _ in inside)
        for idle, _ in self.idle():
            if id(idle) in parts and idle is not model:
                del self._idle[idle]
        return any(prefix == _FIRST for _, prefix in inside)

    def lacks(self, parameters: Iterable[Tensor]) -> bool:
        """Whether some of the parameters belong to no model found so far."""
        return any(id(parameter) not in self._parameters for parameter in parameters)

    def owners(self, parameters: Iterable[Tensor]) -> list[nn.Module]:
        """The outermost live models that hold parameters of which no model is known; looks at every live object."""
        wanted = {id(parameter) for parameter in parameters} - self._parameters
        holding = [module for module in _live_modules() if not wanted.isdisjoint(_parameter_ids(module))]
        return _outermost(holding, lambda module: module.modules())

    def unknown(self) -> list[nn.Module]:
        """The outermost live models of which no parameter is known; looks at every live object."""
        holding = [module for module in _live_modules() if self._is_unknown(module)]
        return [module for module in _outermost(holding, _parts) if module not in self._idle]

    def _is_unknown(self, module: nn.Module) -> bool:
        held = {id(parameter) for part in _parts(module) for parameter in _held(part, "_parameters")}
        return bool(held) and type(module).__hash__ is not None and self._parameters.isdisjoint(held)

    @property
    def device(self) -> torch.device | None:
        """Where the first model that has memory has its parameters; None before there is one."""
        devices = (parameter.device for model in self._prefixes for parameter in model.parameters())
        return next((device for device in devices if device.type != "meta"), None)

    def _free_prefix(self, name: str, bare: bool = True) -> str:
        candidates = chain((_FIRST, name) if bare else (name,), (f"{name}_{number}" for number in count(2)))
        return next(prefix for prefix in candidates if prefix not in self._given)


def _live_modules() -> list[nn.Module]:
    return [found for found in gc.get_objects() if issubclass(type(found), nn.Module)]


def _outermost(modules: list[nn.Module], parts: Callable[[nn.Module], Iterable[nn.Module]]) -> list[nn.Module]:
    """Those that are no part of another."""
    inner = {id(child) for module in modules for child in parts(module) if child is not module}
    return [module for module in modules if id(module) not in inner]


def _parameter_ids(module: nn.Module) -> set[int]:
    """Of a module's parameters; none where it is half built."""
    try:
        return {id(parameter) for parameter in module.parameters()}
    except Exception:  # noqa: BLE001 - whatever a module of the program raises, it is not at work now
        return set()


def _parts(module: nn.Module) -> list[nn.Module]:
    """A module and all inside, itself first, read without running any code of the program."""
    found, seen = [module], {id(module)}
    for part in found:
        for child in _held(part, "_modules"):
            if id(child) not in seen:
                seen.add(id(child))
                found.append(child)
    return found


def _held(module: nn.Module, name: str) -> list[Any]:
    """What a module holds under one of the names that torch has for that."""
    held = object.__getattribute__(module, "__dict__").get(name)
    return [item for item in held.values() if item is not None] if isinstance(held, dict) else []


def plain_model(module: nn.Module) -> nn.Module:
    """The model itself where ``torch.compile`` has wrapped it."""
    children = module.__dict__.get("_modules")
    inner = children.get("_orig_mod") if isinstance(children, dict) else None  # TorchScript's is no dict
    return inner if isinstance(inner, nn.Module) else module
