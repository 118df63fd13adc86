"""Asking a child process for one pass. Nothing here needs torch: only the children load it."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from vramscope.workloads.processes import PythonProcess, processors, raise_failure

_MOST_WAITING = 3
GO = b"\n"
"""What a child that has loaded everything waits for on its standard input."""


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


class Child:
    """A fresh process for one request: it loads what it needs at once, and runs when it is told to.

    A context that ends it, whatever it is doing; its output file stays.

    Args:
        request: what to run.
        echo: whether to pass on what the workload prints.
    """

    def __init__(self, request: Request, echo: bool = False) -> None:
        self.request = request
        self._process = PythonProcess("vramscope.workloads.child", json.dumps(request.to_json()), echo=echo)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.close()

    def run(self, progress: Callable[[str], None]) -> None:
        """Let it run its request, and wait for it; its output file is there afterwards.

        Args:
            progress: told what the child is doing.

        Raises:
            VramscopeError: the child's own error, of the same class; its ``__notes__`` hold the child's traceback.
            MemoryExhaustedError: the workload ran out of memory; the output file holds what led there.
            WorkloadError: the process died.
            ChildDefectError: a fault of vramscope in the child.
        """
        with suppress(BrokenPipeError), self._process.words as words:  # it may have died already
            words.write(GO)
        reply = self._listen(progress)
        if reply is None:
            work = f"the {self.request.pass_name} pass of {self.request.target}"
            raise self._process.death(work, remedy="try a smaller --batch")
        self._process.wait()
        raise_failure(reply)

    def _listen(self, progress: Callable[[str], None]) -> dict[str, Any] | None:
        """The child's last word, or None if it had none."""
        reply = None
        for line in self._process.replies:
            message = json.loads(line)
            if "progress" in message:
                progress(message["progress"])
            else:
                reply = message
        return reply


@contextmanager
def children(requests: Iterable[Request], echo: bool = False) -> Iterator[Iterator[Child]]:
    """A child for each request, in turn. While one runs the next have been started: loading torch takes seconds."""
    with ExitStack() as running:
        yield _some_ahead(running.enter_context(Child(request, echo)) for request in requests)


def _some_ahead(started: Iterator[Child]) -> Iterator[Child]:
    """As many as there are processors for; each that waits takes memory, so they are few."""
    waiting = deque(islice(started, min(processors() - 1, _MOST_WAITING)))
    while child := next(started, None):
        waiting.append(child)
        yield waiting.popleft()
    yield from waiting
