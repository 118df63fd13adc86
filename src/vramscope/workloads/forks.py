"""Processes that a workload forks: they are its own, and none of ours may go on in them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn

from vramscope.workloads.uncaught import code_of


@contextmanager
def forks_ended() -> Iterator[None]:
    """End whatever process the block forks where it comes out of the block, be it by an exception.

    It says what Python would say, and has the exit code that it would have: what catches exceptions goes around this.
    It would run the workload again and reply a second time; and the profiler's library waits in it, for ever, for
    threads that a forked process does not have.
    """
    process = os.getpid()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if os.getpid() != process:
            _leave(error)


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


def _leave(error: BaseException | None) -> NoReturn:
    code = code_of(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
            stream.flush()
    os._exit(code & 0xFF)
