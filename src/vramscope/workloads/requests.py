"""Asking a child process for one pass. Nothing here needs torch: only the children load it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vramscope import errors
from vramscope.errors import VramscopeError, WorkloadError

_QUIET_PROFILER = "99"
"""Above every level of the profiler library's log, so that it says nothing on standard error."""


class Role(StrEnum):
    """What a child measures; each gets a process of its own, so that no measurement disturbs another."""

    EVENTS = "events"
    LINES = "lines"
    RSS = "rss"
    PYTHON_HEAP = "python_heap"


@dataclass(frozen=True)
class Request:
    """One pass for one child.

    Attributes:
        target: as the user wrote it.
        pass_name: ``inference`` or ``training``.
        role: what to measure.
        options: of the workload, as ``WorkloadOptions.to_json`` gives them.
        output: the file to write: a recording, or JSON for the host's memory.
    """

    target: str
    pass_name: str
    role: Role
    options: Mapping[str, Any]
    output: Path

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ``from_json`` reads them back."""
        return {**asdict(self), "output": str(self.output)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Request":
        """The request that ``to_json`` wrote."""
        return cls(**{**values, "role": Role(values["role"]), "output": Path(values["output"])})


class ChildDefectError(Exception):
    """The child failed through a fault of vramscope; the message is its traceback."""


def run_child(request: Request, progress: Callable[[str], None], echo_stderr: bool = False) -> None:
    """Run a request in a fresh process and wait for it; its output file is there afterwards.

    Args:
        request: what to run.
        progress: told what the child is doing.
        echo_stderr: whether to pass on what the workload prints.

    Raises:
        VramscopeError: the child's own error, of the same class; its ``__notes__`` hold the child's traceback.
        MemoryExhaustedError: the workload ran out of memory; the output file holds what led there.
        WorkloadError: the process died.
        ChildDefectError: a fault of vramscope in the child.
    """
    environment = {"PYTHONHASHSEED": "0", **os.environ, "KINETO_LOG_LEVEL": _QUIET_PROFILER}
    command = [sys.executable, "-m", "vramscope.workloads.child", json.dumps(request.to_json())]
    with tempfile.TemporaryFile() as printed:
        stderr = None if echo_stderr else printed
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True
        ) as child:
            try:
                reply = _listen(child, progress)
            except BaseException:
                child.kill()
                raise
        if reply is None:
            raise _death(request, child.returncode, _tail(printed))
    _raise_reply(reply)


def _listen(child: "subprocess.Popen[str]", progress: Callable[[str], None]) -> dict[str, Any] | None:
    """The child's last word, or None if it had none."""
    assert child.stdout is not None  # a pipe was asked for
    reply = None
    for line in child.stdout:
        message = json.loads(line)
        if "progress" in message:
            progress(message["progress"])
        else:
            reply = message
    return reply


def _raise_reply(reply: Mapping[str, Any]) -> None:
    if "defect" in reply:
        raise ChildDefectError(reply["defect"])
    if "error" in reply:
        error: VramscopeError = getattr(errors, reply["kind"], WorkloadError)(reply["error"])
        error.add_note(reply["traceback"])
        raise error


def _tail(printed: Any) -> str:
    """The last line that the child printed."""
    printed.seek(0)
    lines = printed.read().decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _death(request: Request, returncode: int, last_line: str) -> WorkloadError:
    if returncode == -signal.SIGKILL:
        why = "was killed (signal 9): most likely the system ran out of memory; try a smaller --batch"
    elif returncode < 0:
        why = f"died of {signal.Signals(-returncode).name}" + (f": {last_line}" if last_line else "")
    else:
        why = f"ended with exit code {returncode}" + (f": {last_line}" if last_line else "")
    return WorkloadError(f"the {request.pass_name} pass of {request.target} {why}")
