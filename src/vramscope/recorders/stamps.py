"""Stamps: zero-length scopes that put a moment of ours on the profiler's own clock.

The profiler's timestamps come from the processor's counter and cannot be compared with Python's clocks to the
nanosecond.
A stamp is an empty profiler scope, so it is ordered exactly among the allocations around it.
"""

from enum import StrEnum

from torch._C._profiler import _RecordFunctionFast

from vramscope.recorders.window import STAMP_PREFIX


class StampKind(StrEnum):
    """What a stamp announces; the text after it is the argument: a number, and for a phase its name after a blank."""

    STEP_BEGIN = "step+"
    STEP_END = "step-"
    PHASE_BEGIN = "phase+"
    PHASE_END = "phase-"
    MARKS = "marks"
    LINE = "line"
    SEEDS_GONE = "seeds-gone"
    BOOKEND = "bookend"
    MODULE = "module"
    LOSS = "loss"
    VIRTUAL = "virtual"
    HIDDEN = "hidden"
    USER = "user"
    SAMPLE = "sample"
    WORKSPACES = "workspaces"


def label(kind: StampKind, argument: object = "") -> str:
    """The scope name that carries a stamp."""
    return f"{STAMP_PREFIX}{kind}:{argument}"


def parse(name: str) -> tuple[str, str]:
    """The kind and the argument of a name made by `label`."""
    kind, _, argument = name.removeprefix(STAMP_PREFIX).partition(":")
    return kind, argument


_MODULE, _MARKS = label(StampKind.MODULE), label(StampKind.MARKS)


def stamp(kind: StampKind, argument: object = "") -> None:
    """Put a moment into the profiler's stream."""
    with _RecordFunctionFast(label(kind, argument)):
        pass


def module_scope(path: str) -> "_RecordFunctionFast":
    """An entered scope of a module; the caller closes it with ``__exit__``. Every module's forward waits for it."""
    scope = _RecordFunctionFast(_MODULE + path)
    scope.__enter__()
    return scope


def marks_scope(number: int) -> "_RecordFunctionFast":
    """A context at whose beginning a batch of labels is true. Every gradient waits for it."""
    return _RecordFunctionFast(f"{_MARKS}{number}")


def open_scope(name: str) -> "_RecordFunctionFast":
    """An entered profiler scope; the caller closes it with ``__exit__``."""
    scope = _RecordFunctionFast(name)
    scope.__enter__()
    return scope


def loss_scope() -> "_RecordFunctionFast":
    """A context that says: what runs here is the loss, and so part of the forward pass."""
    return _RecordFunctionFast(label(StampKind.LOSS))
