"""What Python does with an exception that nobody catches, for processes that must not end as Python ends them."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_OURS = (f"{Path(__file__).parents[1]}{os.sep}", importlib.__file__, "<frozen importlib")
"""Where the frames come from that lie between a process's first line and the user's."""


def outcome(program: Callable[[], object]) -> BaseException | None:
    """Whatever ended a program before its own end; its traceback begins with the first frame that is not ours."""
    try:
        program()
    except BaseException as error:  # noqa: BLE001 - whatever ends the program is printed, and decides the exit code
        error.__traceback__ = _without_us(error.__traceback__)
        return error
    return None


def code_of(error: BaseException | None) -> int:
    """The exit code of a process that ends by ``error``, if by any; what there is to say of it is printed."""
    if error is None or isinstance(error, SystemExit):
        return exit_code(error)
    error.__traceback__ = _without_us(error.__traceback__)
    failed = outcome(lambda: print_uncaught(error))
    return exit_code(failed) if isinstance(failed, SystemExit) else 1


def print_uncaught(error: BaseException) -> None:
    """As Python prints what nobody caught (``_PyErr_PrintEx`` in Python/pythonrun.c).

    Raises:
        SystemExit: the script's own hook asked for it.
    """
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    failed = outcome(lambda: sys.excepthook(type(error), error, error.__traceback__))
    if isinstance(failed, SystemExit):
        raise failed
    if failed is not None:
        for words, shown in (("Error in sys.excepthook:", failed), ("\nOriginal exception was:", error)):
            sys.stderr.write(f"{words}\n")
            sys.__excepthook__(type(shown), shown, shown.__traceback__)


def exit_code(error: SystemExit | None) -> int:
    """The exit code that ``sys.exit(…)`` means; what is no number is printed, as Python prints it."""
    if error is None or error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    with suppress(AttributeError, OSError, ValueError):  # there is no standard error, or nobody reads it
        sys.stderr.write(f"{error.code}\n")
    return 1


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame on that is not ours."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace
