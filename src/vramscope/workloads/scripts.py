"""Running an unmodified script in a process of its own. Nothing here needs torch: only the script may load it."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

COMMAND = "from vramscope.workloads.script_child import main; main()"
"""What the child's Python runs: with ``-c`` it ends after Ctrl-C as it does for a script, with ``-m`` it need not."""
NOT_STARTED = 2
"""Exit code of a script that could not be started."""
_SIGNAL_BASE = 128  # what shells add to the number of the signal that ended a process
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_FROM_TERMINAL = 0x80  # SI_KERNEL of sigaction(2): the terminal sent it, to the script as well
_FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WATCHED = {*_FORWARDED, signal.SIGCHLD}


@dataclass(frozen=True)
class ScriptRequest:
    """What the child is to run and to record.

    Attributes:
        program: a file to run, or a module's name.
        is_module: which of the two it is.
        arguments: what the program finds in ``sys.argv`` after its own name.
        output: the recording to write.
        status: the file in which the child says how it went.
        first: the first step to record; 0 records from the moment at which torch was imported.
        last: the step after the last one to record, None for all.
        rearm: whether growing memory opens further windows.
    """

    program: str
    is_module: bool
    arguments: tuple[str, ...]
    output: str
    status: str
    first: int = 1
    last: int | None = 4
    rearm: bool = True

    def to_json(self) -> str:
        """One line; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ScriptRequest":
        """The request that `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "arguments": tuple(values["arguments"])})


@dataclass(frozen=True)
class Outcome:
    """How a script ended: its exit code as a shell would give it, and what the child said of the recording."""

    exit_code: int
    signal: int
    status: Mapping[str, Any]


def run_script(request: ScriptRequest) -> Outcome:
    """Run a script to its end. It inherits standard streams, working directory and environment, and gets our signals.

    The script outlives nobody: when this process is killed, the kernel kills it too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        child = subprocess.Popen(_command(request), preexec_fn=_become_child(before), close_fds=False)
        returncode = _wait(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = _read_status(Path(request.status))
    if returncode < 0:
        return Outcome(_SIGNAL_BASE - returncode, -returncode, status)
    return Outcome(NOT_STARTED if "not_started" in status else returncode, 0, status)


def _command(request: ScriptRequest) -> list[str]:
    """This interpreter with the flags it was given, and the child's own code."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-c", COMMAND, request.to_json()]


def _become_child(mask: "set[int | signal.Signals]") -> Callable[[], None]:
    """What the child does before it becomes Python: die with its parent, and take signals again."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return prepare


def _wait(child: "subprocess.Popen[bytes]") -> int:
    """Wait for the child's end; signals that only we got are passed on."""
    while (returncode := child.poll()) is None:
        received = signal.sigtimedwait(_WATCHED, 1.0)
        if received is None or received.si_signo == signal.SIGCHLD:
            continue
        if received.si_code != _FROM_TERMINAL:
            child.send_signal(received.si_signo)
    return returncode


def _read_status(path: Path) -> dict[str, Any]:
    """What the child said before it ended; nothing if it was killed."""
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def write_status(path: str, status: Mapping[str, Any]) -> None:
    """The child's word to its parent, whole or not at all."""
    target = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:
        json.dump(status, file)
    os.replace(file.name, target)  # noqa: PTH105 - the name is a plain string already
