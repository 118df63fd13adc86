"""What a function can reach of a program, read from the function itself; nothing is called."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from dis import get_instructions
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

_MOST = 10_000
"""Objects that are looked at; who reaches more is taken to reach everything."""
_DEEPEST = 6
_LEAVES = (Tensor, str, bytes, int, float, complex, type, type(None))
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_LIBRARIES = frozenset({"torch", "numpy", "builtins"})


@dataclass
class Reach:
    """What was found.

    Attributes:
        modules: the outermost ones, in the order in which they were found.
        optimizers: likewise.
        is_known: False where there was too much to look at.
    """

    modules: list[nn.Module] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    is_known: bool = True


def reach_of(item: Any) -> Reach:
    """What an object can reach: a function, a method, a partial, or whatever a function is called with.

    Followed are closures, defaults, the globals that code names and what those hold, but nothing inside torch's own
    functions. What comes in as an argument, or is imported inside, is not seen.
    """
    found = Reach()
    seen: set[int] = set()
    layer = [item]
    for _ in range(_DEEPEST):
        layer = [held for held in layer if not isinstance(held, _LEAVES) and not _is_seen(held, seen)]
        if len(seen) > _MOST:
            found.is_known = False
            break
        layer = [inner for held in layer for inner in _inside(held, found)]
    return found


def _is_seen(item: Any, seen: set[int]) -> bool:
    known = id(item) in seen
    seen.add(id(item))
    return known


def _inside(item: Any, found: Reach) -> Iterator[Any]:
    """What an object holds; modules and optimizers are noted and not looked into."""
    if isinstance(item, nn.Module):
        found.modules.append(item)
    elif isinstance(item, Optimizer):
        found.optimizers.append(item)
    elif isinstance(item, MethodType):
        yield from (item.__self__, item.__func__)
    elif isinstance(item, FunctionType):
        yield from _of_function(item)
    elif isinstance(item, partial):
        yield from (item.func, *item.args, *item.keywords.values())
    elif isinstance(item, Mapping):
        yield from list(item.values())
    elif isinstance(item, list | tuple | set | frozenset):
        yield from list(item)
    elif not isinstance(item, ModuleType) and type(item).__module__.partition(".")[0] not in _LIBRARIES:
        yield from list(getattr(item, "__dict__", {}).values())


def _of_function(function: FunctionType) -> Iterator[Any]:
    if (function.__module__ or "").partition(".")[0] in _LIBRARIES:
        return
    yield from map(_contents, function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    variables, attributes = _names(function.__code__)
    for name in variables & function.__globals__.keys():
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES:
            yield from [vars(value)[inner] for inner in attributes & vars(value).keys()]


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later
        return None


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """The variables outside functions that code reads, and the other names in it; functions in it included."""
    variables = {str(step.argval) for step in get_instructions(code) if step.opname in _READS}
    others = set(code.co_names) - variables
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _names(constant)
            variables |= inner[0]
            others |= inner[1]
    return variables, others
