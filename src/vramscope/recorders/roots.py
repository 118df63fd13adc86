"""The models of a script: found at their first forward, or by the parameters that an optimizer steps."""

import gc
from collections.abc import Iterable, Iterator
from itertools import chain, count
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class Roots:
    """The outermost models that a script has run, with the prefix of their paths; kept alive by nobody.

    The first has none; a further one goes by its class, with an ordinal where several share one.
    """

    def __init__(self) -> None:
        self._prefixes: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._given: set[str] = set()
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

    def add(self, module: nn.Module) -> str | None:
        """The prefix of a model that is new and has parameters, None for any other module."""
        model = plain_model(module)
        if model in self._prefixes or next(model.parameters(), None) is None:
            return None
        prefix = self._free_prefix(type(model).__name__)
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
        modules = [found for found in gc.get_objects() if issubclass(type(found), nn.Module)]
        holding = [m for m in modules if wanted.intersection(map(id, m.parameters()))]
        inner = {id(child) for module in holding for child in module.modules() if child is not module}
        return [module for module in holding if id(module) not in inner]

    @property
    def device(self) -> torch.device:
        """Where the first model's parameters are; the CPU before there is one."""
        for model in self._prefixes:
            first = next(model.parameters(), None)
            if first is not None:
                return first.device
        return torch.device("cpu")

    def _free_prefix(self, name: str) -> str:
        candidates = chain(("", name), (f"{name}_{number}" for number in count(2)))
        return next(prefix for prefix in candidates if prefix not in self._given)


def plain_model(module: nn.Module) -> nn.Module:
    """The model itself where ``torch.compile`` has wrapped it."""
    children = module.__dict__.get("_modules")
    inner = children.get("_orig_mod") if isinstance(children, dict) else None  # TorchScript's is no dict
    return inner if isinstance(inner, nn.Module) else module
