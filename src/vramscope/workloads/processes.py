"""What processes of our own have in common: how they start and end, and how their errors reach the parent.

Nothing here needs torch: only the children load it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from vramscope import errors
from vramscope.errors import VramscopeError, WorkloadError

_QUIET_PROFILER = "99"
"""Above every level of the profiler library's log, so that it says nothing on standard error."""


class ChildDefectError(Exception):
    """The child failed through a fault of vramscope; the message is its traceback."""


class ProcessDiedError(WorkloadError):
    """A process ended without an answer; nothing more is to be had of it."""


class PythonProcess:
    """A module of ours that runs in a process of its own; bytes go in and out through pipes.

    Args:
        module: what ``python -m`` is to run.
        arguments: for it.
        echo_stderr: whether to pass on what it prints on standard error.
    """

    def __init__(self, module: str, *arguments: str, echo_stderr: bool = False) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if echo_stderr else self._printed,
            env={"PYTHONHASHSEED": "0", **os.environ, "KINETO_LOG_LEVEL": _QUIET_PROFILER},
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # pipes were asked for
        self.words: IO[bytes] = self._process.stdin
        self.replies: IO[bytes] = self._process.stdout

    def end(self) -> None:
        """End it, whatever it is doing; safe to call from any thread."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        self._process.wait()

    def close(self) -> None:
        """End it, and give back what it held."""
        with self._printed, suppress(BrokenPipeError), self._process:
            self._process.kill()

    def death(self, work: str) -> ProcessDiedError:
        """Wait for it, which left without an answer; the error that says why ``work`` was not done."""
        self.wait()
        code, last_line = self._process.returncode, self._last_line()
        if code == -signal.SIGKILL:
            why = "was killed (signal 9): most likely the system ran out of memory; try a smaller --batch"
        elif code < 0:
            why = f"died of {signal.Signals(-code).name}" + (f": {last_line}" if last_line else "")
        else:
            why = f"ended with exit code {code}" + (f": {last_line}" if last_line else "")
        return ProcessDiedError(f"{work} {why}")

    def _last_line(self) -> str:
        self._printed.seek(0)
        lines = self._printed.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


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
