"""The tensors that a model is given: those of a nest, and those that objects of the program's own classes keep."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from vramscope.recorders.labels import nested_tensors
from vramscope.recording.recording import MarkKind

_MOST = 200
"""Parts that are looked at, numbers and words included: a batch may hold a vocabulary."""
_CONTAINERS = (dict, list, tuple)
_LEAVES = frozenset({bool, bytes, float, int, str, type(None)})
_DESCRIPTORS = frozenset({GetSetDescriptorType, MemberDescriptorType})
"""Of an object's ``__dict__``, where Python made them."""
_NOT_ENTERED = (nn.Module, Optimizer, Dataset, DataLoader, type)


def inputs_in(nest: Any) -> Iterator[tuple[MarkKind, str, Tensor]]:
    """The tensors of a nest of inputs, as what they are to be marked, and their names.

    What an object keeps is an input only where nothing else says what it is: it may keep a gradient.
    """
    yield from ((MarkKind.INPUT, name, tensor) for name, tensor in nested_tensors(nest))
    yield from ((MarkKind.TARGET, "", tensor) for tensor in tensors_in_objects(nest))


def tensors_in_objects(nest: Any) -> Iterator[Tensor]:
    """What objects such as graphs keep, but no parameters, nor what lies in containers alone; none of their code runs.

    Looked at is what an object of a nest has as attributes of its own, and what containers among these hold. Objects in
    an object are passed over, but for mappings of the program's own classes, in which graphs keep their tensors.
    """
    waiting = deque([(nest, False)])
    left = _MOST
    while waiting and left:
        item, is_inside = waiting.popleft()
        parts = list(islice(_held(item, is_inside), left))
        left -= len(parts)
        is_inside = is_inside or not issubclass(type(item), _CONTAINERS)
        for part in parts:
            kind = type(part)  # asking an object for its class may run its code
            if issubclass(kind, Tensor):
                if is_inside and not issubclass(kind, nn.Parameter):
                    yield part
            elif kind not in _LEAVES:
                waiting.append((part, is_inside))


def _held(item: Any, is_inside: bool) -> Iterable[Any]:
    """What a container or an object holds."""
    kind = type(item)
    if issubclass(kind, dict):
        return list(dict.values(item))
    if issubclass(kind, list):
        return list.__iter__(item)
    if issubclass(kind, tuple):
        return tuple.__iter__(item)
    if issubclass(kind, _NOT_ENTERED) or (is_inside and not issubclass(kind, Mapping)):
        return ()
    return _attributes(item, kind)


def _attributes(item: Any, kind: type) -> Iterator[Any]:
    """What an object has under names of its own, be it in its ``__dict__`` or in slots."""
    classes = [(base, type.__getattribute__(base, "__dict__")) for base in type.__getattribute__(kind, "__mro__")]
    of_names = (of_class.get("__dict__") for _, of_class in classes)
    # Python's own: a property in its place, as proxies have, would run code
    names = next((descriptor for descriptor in of_names if type(descriptor) in _DESCRIPTORS), None)
    held = None if names is None else names.__get__(item)
    if isinstance(held, dict):
        yield from list(dict.values(held))  # at once: other threads may write too
    for base, of_class in classes:
        if "__slots__" in of_class:
            yield from _filled_slots(item, base, of_class.values())


def _filled_slots(item: Any, base: type, of_class: Iterable[Any]) -> Iterator[Any]:
    for descriptor in of_class:
        if type(descriptor) is MemberDescriptorType and descriptor.__objclass__ is base:  # else another class's slot
            try:
                yield descriptor.__get__(item)
            except AttributeError:  # nothing was put there
                continue
