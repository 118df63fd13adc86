"""Stack frames of a snapshot: Python frames are kept, C++ frames leave a hint of what allocated."""

import re
from typing import Any

from vramscope.allocator.snapshot.model import Frame, Hint, Stack, Stacks
from vramscope.names import visible

MOST_FRAMES = 1024
"""Innermost frames of a stack that are looked at; a bound for hostile files, Python's own default is 1,000."""

_PYTHON_FILE = re.compile(r".*\.py|<[^<>]*>")
_FUNCTION_HINTS = (
    (Hint.BACKWARD, re.compile(r"torch::autograd::(?:python::PythonEngine|Engine)::|_engine_run_backward|^backward$")),
    (Hint.CUBLAS, re.compile(r"getCurrentCUDABlasHandle|CUDABlasLtWorkspace|CUDABlasWorkspace|getNewWorkspace")),
    (Hint.CUDNN, re.compile(r"cudnn.*Workspace", re.IGNORECASE)),
    (Hint.COMMUNICATION, re.compile(r"ProcessGroupNCCL|c10d::")),
    (Hint.FORWARD, re.compile(r"^(?:_call_impl|forward)$")),
)
_OPTIMIZER_FILE = re.compile(r"(?:^|/)torch/optim/")


class StackTable:
    """Collects the distinct stacks while a trace is read.

    A file shares frame dicts between stacks, so a stack is first recognised by the identities of its frames; the
    dicts are kept so that no identity is used twice.
    """

    def __init__(self) -> None:
        """Only the empty stack is known."""
        self._by_identity: dict[tuple[int, ...], int] = {(): 0}
        self._by_content: dict[Stack, int] = {Stack((), Hint.NONE): 0}
        self._frame_of: dict[int, tuple[int | None, Hint]] = {}
        self._frames: dict[Frame, int] = {}
        self._kept: list[object] = []
        self.damaged = 0

    def number(self, frames: Any) -> int:
        """The number of a stack; 0 for what is no list of frames."""
        if type(frames) is not list:
            self.damaged += frames is not None
            return 0
        identity = tuple(map(id, frames[:MOST_FRAMES]))
        number = self._by_identity.get(identity)
        if number is None:
            stack = self._stack(frames[:MOST_FRAMES])
            number = self._by_content.setdefault(stack, len(self._by_content))
            self._by_identity[identity] = number
        return number

    def table(self) -> Stacks:
        """All stacks met so far."""
        return Stacks(tuple(self._frames), tuple(self._by_content))

    def _stack(self, frames: list[Any]) -> Stack:
        python, hints = [], Hint.NONE
        for frame in frames:
            known = self._frame_of.get(id(frame))
            if known is None:
                known = self._frame_of[id(frame)] = self._read(frame)
                self._kept.append(frame)
            if known[0] is not None:
                python.append(known[0])
            hints |= known[1]
        return Stack(tuple(python), hints)

    def _read(self, frame: Any) -> tuple[int | None, Hint]:
        """The number of a Python frame (None for a C++ frame) and what the frame hints at."""
        fields = (frame.get("name"), frame.get("filename"), frame.get("line")) if type(frame) is dict else (None,) * 3
        function, file, line = fields
        if not (type(function) is str and type(file) is str and type(line) is int):
            self.damaged += 1
            return None, Hint.NONE
        hints = frame_hints(function, file)
        if not _PYTHON_FILE.fullmatch(file):
            return None, hints
        line = line if 0 <= line < 2**31 else 0
        shown = Frame(visible(function, longest=None), visible(file, longest=None), line)
        return self._frames.setdefault(shown, len(self._frames)), hints


def frame_hints(function: str, file: str) -> Hint:
    """What one frame tells about the allocation below it."""
    hints = Hint.OPTIMIZER if _OPTIMIZER_FILE.search(file) else Hint.NONE
    for hint, pattern in _FUNCTION_HINTS:
        if pattern.search(function):
            hints |= hint
    return hints
