"""Which Python line is running, put on the profiler's clock whenever it changes.

Tracing costs several times a step's own time on small models, so lines are recorded in a run of their own and joined
to the
main run afterwards.
"""

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from vramscope.recorders.stamps import StampKind, stamp

_PACKAGE = str(Path(__file__).parents[1]) + "/"
_MODELS = _PACKAGE + "workloads/models/"
_HELPER = "/checkpointing.py"
_TORCH = str(Path(torch.__file__).parent) + "/"
_LIBRARIES = tuple({sysconfig.get_paths()[key] + "/" for key in ("purelib", "platlib", "stdlib", "platstdlib")})

Tracer = Callable[[FrameType, str, Any], Any]
NO_LINE = -1
"""Argument of a LINE stamp when no traced frame is running any more."""


def rank_of(path: str) -> int:
    """How much a frame of a file says to a user: 2 their own code, 1 another library's, 0 torch's, Python's or ours."""
    if path.startswith(("<", _TORCH)):
        return 0
    if path.startswith(_PACKAGE):
        return 2 if path.startswith(_MODELS) and not path.endswith(_HELPER) else 0
    if "site-packages/" in path or "dist-packages/" in path:
        return 1
    return 0 if path.startswith(_LIBRARIES) else 2


class LineTracer:
    """Stamps the innermost line of the user's code, or of a library's where none of the user's is running.

    Threads other than the one that starts the tracer are not traced.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[str, int]] = []
        """(``file|function``, line) by the number that a stamp carries."""
        self._numbers: dict[tuple[CodeType, int], int] = {}
        self._ranks: dict[CodeType, int] = {}
        self._stack: list[tuple[int, int]] = []  # (rank, frame number) of each traced frame, outermost first
        self._previous: Any = None  # whatever sys.gettrace gives
        self._running: list[tuple[FrameType, Any]] = []  # frames that ran already, and what traced them before
        self._shown = NO_LINE
        self._tracing = False

    def start(self) -> None:
        """Trace this thread from now on, the frames that are running already included."""
        self._tracing = True
        self._previous = sys.gettrace()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            self._running.append((frame, frame.f_trace))
            frame = frame.f_back
        for frame, _ in reversed(self._running):
            frame.f_trace = self._enter(frame, frame.f_lineno)
        self._show()
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """Stop tracing and give back the trace function that was there before."""
        if not self._tracing:
            return
        self._tracing = False
        sys.settrace(self._previous)
        for frame, trace in self._running:
            frame.f_trace = trace
        self._running.clear()
        self._previous = None
        self._stack.clear()

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Tracer | None:
        return self._enter(frame, NO_LINE)

    def _enter(self, frame: FrameType, line: int) -> Tracer | None:
        """Put a frame on the stack and give what follows it; None for a frame that says nothing to a user."""
        code = frame.f_code
        rank = self._ranks.get(code)
        if rank is None:
            rank = self._ranks[code] = rank_of(code.co_filename)
        if rank == 0:
            return None
        depth = len(self._stack)
        self._stack.append((rank, NO_LINE if line == NO_LINE else self._number(code, line)))

        def follow(frame: FrameType, event: str, argument: Any) -> Tracer:
            if event == "line":
                del self._stack[depth + 1 :]  # frames that ended unseen
                self._stack[depth:] = [(rank, self._number(code, frame.f_lineno))]
                self._show()
            elif event == "return":
                del self._stack[depth:]
                self._show()
            return follow

        return follow

    def _number(self, code: CodeType, line: int) -> int:
        key = (code, line)
        if key not in self._numbers:
            self._numbers[key] = len(self.frames)
            self.frames.append((f"{code.co_filename}|{code.co_qualname}", line))
        return self._numbers[key]

    def _show(self) -> None:
        """Stamp the innermost frame of the highest rank, if it is another one than before."""
        best_rank, best = 0, NO_LINE
        for rank, number in reversed(self._stack):
            if rank > best_rank:
                best_rank, best = rank, number
        if best != self._shown:
            self._shown = best
            stamp(StampKind.LINE, best)
