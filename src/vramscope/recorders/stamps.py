"""Stamps: zero-length scopes that put a moment of ours on the profiler's own clock.

The profiler's timestamps come from the processor's counter and cannot be compared with Python's clocks to the
nanosecond. A stamp is an empty profiler scope, so it is ordered exactly among the allocations around it.
"""

from enum import StrEnum

from torch._C._profiler import _RecordFunctionFast

from vramscope.recorders.window import STAMP_PREFIX


class StampKind(StrEnum):
    """What a stamp announces; the text after it is the argument: a number, and for a phase its name after a blank."""

    RECORDING = "recording"
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


def stamp(kind: StampKind, argument: object = "") -> None:
    """Put a moment into the profiler's stream."""
    with _RecordFunctionFast(label(kind, argument)):
        pass


Scope = _RecordFunctionFast
"""A context that is a scope of the profiler, given its name; every module and every gradient waits for one."""
MODULE, MARKS = label(StampKind.MODULE), label(StampKind.MARKS)
"""What the names of a module's scope, and of one at whose beginning a batch of labels is true, begin with."""


def open_scope(name: str) -> "_RecordFunctionFast":
    """An entered profiler scope; the caller closes it with ``__exit__``."""
    scope = _RecordFunctionFast(name)
    scope.__enter__()
    return scope


def loss_scope() -> "_RecordFunctionFast":
    """A context that says: what runs here is the loss, and so part of the forward pass."""
    return _RecordFunctionFast(label(StampKind.LOSS))
