"""What a function can reach of a program, read from the function itself; no code of the program runs."""

import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from dis import get_instructions
from functools import partial
from itertools import chain, islice
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

_MOST = 10_000
"""Objects that are looked at."""
_DEEPEST = 6
_LEAVES = (Tensor, str, bytes, int, float, complex, type(None))
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_COMPILED_FROM = "_torchdynamo_orig_callable"
"""Where torch keeps what a compiled function was made of."""
_CONTAINERS = (list, tuple, set, frozenset)
_LIBRARIES = frozenset({"torch", "numpy", "builtins"})


@dataclass
class Reach:
    """What was found.

    Attributes:
        modules: the outermost ones, in the order in which they were found.
        optimizers: likewise.
        is_complete: whether nothing else can be reached: False where objects, classes or imports of the program are
            among it, whose methods may reach anything, and where there was too much to look at.
    """

    modules: list[nn.Module] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    is_complete: bool = True


def reach_of(item: Any) -> Reach:
    """What an object can reach: a function, a method, a partial, or whatever a function is called with.

    Followed are closures, defaults, the globals that code names and what those hold, but nothing inside torch's own
    functions.
    """
    found = Reach()
    seen: set[int] = set()
    layer = [item]
    for _ in range(_DEEPEST):
        layer = [held for held in layer if not issubclass(type(held), _LEAVES) and not _is_seen(held, seen)]
        if len(seen) > _MOST:
            break
        layer = list(islice(chain.from_iterable(_inside(held, found) for held in layer), _MOST + 1))
    found.is_complete &= not layer
    return found


def _is_seen(item: Any, seen: set[int]) -> bool:
    known = id(item) in seen
    seen.add(id(item))
    return known


def _inside(item: Any, found: Reach) -> Iterator[Any]:
    """What an object holds; modules and optimizers are noted and not looked into."""
    kind = type(item)  # asking an object for its class may run its code, and so may asking it for anything else
    if issubclass(kind, nn.Module):
        found.modules.append(item)
    elif issubclass(kind, Optimizer):
        found.optimizers.append(item)
    elif kind is MethodType:
        yield from (item.__self__, item.__func__)
    elif kind is FunctionType:
        yield from _of_function(item, found)
    elif kind is partial:
        yield from (item.func, *item.args, *item.keywords.values())
    elif kind is dict:
        yield from list(item.values())
    elif kind in _CONTAINERS:
        yield from list(item)
    elif issubclass(kind, type):
        found.is_complete &= _is_of_library(item)
    elif kind is ModuleType:
        found.is_complete &= item.__name__.partition(".")[0] in _LIBRARIES
    elif not _is_of_library(kind):
        found.is_complete = False
        yield from _attributes(item)


def _is_of_library(kind: type) -> bool:
    return type.__getattribute__(kind, "__module__").partition(".")[0] in _LIBRARIES


def _attributes(item: Any) -> list[Any]:
    try:
        held = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return []
    return list(held.values()) if type(held) is dict else []


def _of_function(function: FunctionType, found: Reach) -> Iterator[Any]:
    if (function.__module__ or "").partition(".")[0] in _LIBRARIES:
        return
    compiled = vars(function).get(_COMPILED_FROM)
    if compiled is not None:
        yield compiled
        return
    yield from map(_contents, function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    variables, attributes, imports = _names(function.__code__)
    found.is_complete &= not imports and variables <= function.__globals__.keys() | vars(builtins).keys()
    for name in sorted(variables & function.__globals__.keys()):  # in an order that does not depend on hashes
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES:
            yield from [vars(value)[inner] for inner in sorted(attributes & vars(value).keys())]


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later
        return None


def _names(code: CodeType) -> tuple[set[str], set[str], bool]:
    """The variables outside functions that code reads, the other names in it, and whether it imports anything.

    Functions inside it are included.
    """
    steps = list(get_instructions(code))
    variables = {str(step.argval) for step in steps if step.opname in _READS}
    others = set(code.co_names) - variables
    imports = any(step.opname == "IMPORT_NAME" for step in steps)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _names(constant)
            variables |= inner[0]
            others |= inner[1]
            imports |= inner[2]
    return variables, others, imports
