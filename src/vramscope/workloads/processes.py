"""What processes of our own have in common: how they start and end, and how their errors reach the parent.

Nothing here needs torch: only the children load it.
"""

import os
import signal
import subprocess
import sys
import traceback
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from threading import Thread
from typing import IO, Any

from vramscope import errors
from vramscope.errors import VramscopeError, WorkloadError
from vramscope.workloads.forks import withhold_from_forks

INTERRUPTED = 130
"""The exit code of a child that was interrupted."""
_QUIET_PROFILER = "99"
"""Above every level of the profiler library's log, so that it says nothing on standard error."""
_TAIL = 4096
"""Bytes that are kept of what a process prints: its last words, should it die."""
_LAST_WORDS_SECONDS = 0.5
"""How long to wait for them: a process that it has started may hold its standard error open."""


class ChildDefectError(Exception):
    """The child failed through a fault of vramscope; the message is its traceback."""


class ProcessDiedError(WorkloadError):
    """A process ended without an answer; nothing more is to be had of it."""


class PythonProcess:
    """A module of ours that runs in a process of its own; bytes go in and out through pipes.

    Its last argument is the number of the pipe for its replies: standard output is what the workload prints on.

    Args:
        module: what ``python -m`` is to run; files of the working directory do not stand in for what it imports.
        arguments: for it.
        echo: whether to pass on what it prints, to standard error.
    """

    def __init__(self, module: str, *arguments: str, echo: bool = False) -> None:
        replies, reply = os.pipe()
        self.replies: IO[bytes] = os.fdopen(replies, "rb")
        try:
            with _interrupts_blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, *arguments, str(reply)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={"PYTHONHASHSEED": "0", **os.environ, "KINETO_LOG_LEVEL": _QUIET_PROFILER},
                    pass_fds=[reply],
                )
        except BaseException:
            self.replies.close()
            raise
        finally:
            os.close(reply)
        assert self._process.stdin is not None and self._process.stdout is not None  # pipes were asked for
        self.words: IO[bytes] = self._process.stdin
        self._tail = b""
        self._echo = echo
        self._reader = Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, printed: IO[bytes]) -> None:
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        line = ""
        with printed:
            while chunk := os.read(printed.fileno(), 1 << 16):
                self._tail = (self._tail + chunk)[-_TAIL:]
                if self._echo:
                    line += decoder.decode(chunk)
                    last = max(line.rfind("\n"), line.rfind("\r"))
                    whole = len(line) if len(line) > _TAIL else last + 1
                    _pass_on(line[:whole])
                    line = line[whole:]
        _pass_on(line)

    def wait(self) -> None:
        """Wait until it has ended by itself, and all that it printed has been passed on."""
        self._process.wait()
        if self._echo:
            self._reader.join(_LAST_WORDS_SECONDS)

    def end(self) -> None:
        """End it, whatever it is doing; safe to call from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it, and give back what it held; what it has printed is passed on first."""
        self.end()
        self.wait()
        with suppress(BrokenPipeError):
            self.words.close()
        self.replies.close()

    def death(self, work: str, remedy: str) -> ProcessDiedError:
        """Wait for it, which left without an answer; the error that says why.

        Args:
            work: what was not done.
            remedy: what to do where the system has killed it.
        """
        self._process.wait()
        self._reader.join(_LAST_WORDS_SECONDS)
        code, last_line = self._process.returncode, self._last_line()
        if code == -signal.SIGKILL:
            why = f"was killed (signal 9): most likely the system ran out of memory; {remedy}"
        elif code < 0:
            why = f"died of {signal.Signals(-code).name}" + (f": {last_line}" if last_line else "")
        else:
            why = f"ended with exit code {code}" + (f": {last_line}" if last_line else "")
        return ProcessDiedError(f"{work} {why}")

    def _last_line(self) -> str:
        lines = self._tail.decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _pass_on(lines: str) -> None:
    """Print on standard error, by whole lines: what else is there may be a progress bar."""
    if lines and sys.stderr is not None:
        with suppress(OSError, ValueError):  # nobody reads it, or it was closed
            sys.stderr.write(lines)
            sys.stderr.flush()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What starts meanwhile begins with them blocked, and calls `allow_interrupts` when it has loaded everything."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_child() -> int:
    """In a child, when it has imported what is ours: what it prints goes out with each line, and it finds the targets.

    Returns:
        the number of the pipe for its replies, which no program or process that the workload starts inherits.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    sys.path.insert(0, str(Path.cwd()))
    replies = int(sys.argv[-1])
    os.set_inheritable(replies, False)
    withhold_from_forks(replies)
    return replies


def allow_interrupts() -> None:
    """In a child that has loaded everything: an interrupt is one from now on, unless the parent ignores them too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def read_nothing() -> None:
    """In a child that has been told all: the workload finds an empty standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def failure_of(error: Exception) -> dict[str, str]:
    """An error that is being handled, as a child tells it: one of ours by its class, any other as a defect."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, VramscopeError):
        return {"error": str(error), "kind": type(error).__name__, "traceback": text}
    return {"defect": text}


def raise_failure(reply: Mapping[str, Any]) -> None:
    """Raise what a reply tells of, if it tells of a failure.

    Raises:
        VramscopeError: the child's own error, of the same class; its ``__notes__`` hold the child's traceback.
        ChildDefectError: a fault of vramscope in the child.
    """
    if "defect" in reply:
        raise ChildDefectError(reply["defect"])
    if "error" in reply:
        error: VramscopeError = getattr(errors, reply["kind"], WorkloadError)(reply["error"])
        error.add_note(reply["traceback"])
        raise error
