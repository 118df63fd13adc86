"""Processes that a workload forks: they are its own, and none of ours may go on in them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn


@contextmanager
def forks_ended() -> Iterator[None]:
    """End whatever process the block forks where it comes out of the block, be it by an exception.

    It would run the workload again and reply a second time; and the profiler's library waits in it, for ever, for
    threads that a forked process does not have.
    """
    process, code = os.getpid(), 1
    try:
        yield
        code = 0
    except SystemExit as error:
        code = _code_of(error)
        raise
    finally:
        if os.getpid() != process:
            _leave(code)


def withhold_from_forks(pipe: int) -> None:
    """Let no process that is forked from now on hold a pipe of ours: who reads from it would wait for that one too.

    Args:
        pipe: its number, which leads nowhere in them, so that nothing else gets it.
    """
    os.register_at_fork(after_in_child=partial(_lead_nowhere, pipe))


def _lead_nowhere(pipe: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, pipe, inheritable=False)
    os.close(nowhere)


def _code_of(error: SystemExit) -> int:
    """The exit code that ``sys.exit(…)`` means."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
            stream.flush()
    os._exit(code)
