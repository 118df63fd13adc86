"""Nests: tensors in dicts, lists, tuples and dataclasses, as models take and return them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a nest, in order, with its dotted path: ``("batch.0.mask", tensor)``."""
    if isinstance(value, Tensor):
        yield name, value
    for key, item in _children(value):
        yield from named_tensors(item, f"{name}.{key}" if name else str(key))


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same nest with every tensor replaced by ``function(tensor)``; what is no nest is returned as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(item, function) for item in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)  # _fields marks a namedtuple
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{str(key): map_tensors(item, function) for key, item in _children(value)})
    return value
