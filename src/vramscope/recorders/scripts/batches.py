"""The tensors that a batch holds in objects of the program's own classes, such as graphs.

None of the program's code runs.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from vramscope.recorders.scripts.reach import attributes_of, is_of_library

_MOST = 10_000
"""Objects that are looked at: a batch may hold a vocabulary, or lead to a whole data set."""
_LEAVES = (str, bytes, int, float, complex, type(None))


def tensors_in_objects(batch: Any) -> dict[str, Tensor]:
    """Those tensors, by dotted names; what lies in containers alone is not among them (see `nested_tensors`)."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    pending = deque([("", batch, False)])
    while pending and len(seen) < _MOST:
        name, item, is_inside = pending.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        kind = type(item)
        if not issubclass(kind, Tensor):
            is_container = issubclass(kind, dict | list | tuple | set | frozenset)
            for key, part in _held(item):
                if not issubclass(type(part), _LEAVES):
                    pending.append((f"{name}.{key}" if name else key, part, is_inside or not is_container))
        elif is_inside:
            found[name] = item
    return found


def _held(item: Any) -> Iterator[tuple[str, Any]]:
    """What a container or an instance holds, with the key or attribute of each."""
    kind = type(item)
    if issubclass(kind, dict):
        for index, (key, value) in enumerate(dict.items(item)):
            yield (key if type(key) is str else str(index)), value  # turning it into text may run its code
    elif issubclass(kind, list | tuple | set | frozenset):
        yield from ((str(index), value) for index, value in enumerate(item))
    elif not issubclass(kind, type | nn.Module) and not is_of_library(kind):
        yield from attributes_of(item).items()
