"""What torch's compiler is told of the recorders: to pass over them, where they run in the middle of what is compiled.

A compiled function may run a backward pass between two pieces: whatever Python that calls would be compiled too.
"""

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_OURS = ("vramscope.recorders.", "vramscope.recording.")

_passed_over: set[str] = set()
"""The modules of ours that the compiler has been told of: it is so for the whole process, and cannot be taken back."""


def pass_over_recorders() -> None:
    """Have the compiler leave the frames of the recorders alone, be it loaded or not; inlined they may be.

    As ``torch._dynamo.eval_frame.skip_code`` does, which to import takes a second.
    """
    try:
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
    except ImportError:  # a torch that has them elsewhere
        return
    alone = _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.DEFAULT)
    new = [name for name in list(sys.modules) if name.startswith(_OURS) and name not in _passed_over]
    for name in new:
        _passed_over.add(name)
        for code in _codes_of_module(sys.modules[name]):
            set_code_exec_strategy(code, alone)


def tells_of_compiler() -> Callable[[], bool] | None:
    """Tells whether the compiler is at work on who calls; None where this torch does not tell."""
    try:
        from torch._C._dynamo.eval_frame import get_eval_frame_callback
    except ImportError:
        return None
    return lambda: get_eval_frame_callback() is not None


def _codes_of_module(module: ModuleType) -> Iterator[CodeType]:
    for item in vars(module).values():
        if isinstance(item, type) and item.__module__ == module.__name__:
            for attribute in vars(item).values():
                yield from _codes_of_functions(attribute)
        elif isinstance(item, FunctionType) and item.__module__ == module.__name__:
            yield from _codes_of_functions(item)


def _codes_of_functions(item: Any) -> Iterator[CodeType]:
    """Of a function, or of a method, property or decorated function that holds one, with all that are inside."""
    if isinstance(item, property):
        for function in (item.fget, item.fset):
            yield from _codes_of_functions(function)
        return
    while item is not None:
        item = getattr(item, "__func__", item)
        if isinstance(item, FunctionType):
            yield from _nested(item.__code__)
        item = getattr(item, "__wrapped__", None)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
