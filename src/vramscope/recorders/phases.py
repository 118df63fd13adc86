"""Which phase a program is in: announced by the caller, or found from what modules, autograd and optimizers tell."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_stack
from types import CodeType, FrameType

from vramscope.recording.recording import PhaseName

_MAY_HOLD_FORWARD = (None, PhaseName.BUILD, PhaseName.OPTIMIZER)
"""Phases in which a model's forward begins a phase of its own; an optimizer calls it back for the loss."""
Caller = tuple[int, CodeType]


@dataclass(frozen=True)
class _Open:
    """A phase that has begun; ``caller`` is the frame that must still run for a found optimizer phase to be true."""

    name: str
    found: bool
    caller: Caller | None = None


class Phases:
    """The open phases of one thread, the innermost last.

    A found forward ends with whatever comes next: a backward pass, an optimizer step, a phase or step that the caller
    announces. A found optimizer phase ends with its step, also when the step raised and nobody told.
    """

    def __init__(self, on_begin: Callable[[str, int], None], on_end: Callable[[str], None]) -> None:
        self._on_begin = on_begin
        self._on_end = on_end
        self._open: list[_Open] = []

    @property
    def current(self) -> str | None:
        """The innermost phase."""
        return self._open[-1].name if self._open else None

    @contextmanager
    def announced(self, name: str, value: int = 0) -> Iterator[None]:
        """A phase that is known to last as long as the context."""
        self.end_found()
        with self.around():
            self._begin(_Open(name, found=False), value)
            yield

    @contextmanager
    def around(self) -> Iterator[None]:
        """Whatever begins inside ends with the context."""
        depth = len(self._open)
        try:
            yield
        finally:
            self.end_down_to(depth)

    def end_down_to(self, depth: int) -> None:
        """End phases until ``depth`` are open."""
        while len(self._open) > depth:
            self._on_end(self._open.pop().name)

    def end_found(self) -> None:
        """End the innermost phases that were found and are over."""
        while self._open and self._open[-1].found and not _is_running(self._open[-1].caller):
            self._on_end(self._open.pop().name)

    def forward_begins(self) -> bool:
        """A model's own forward begins; whether a phase begins with it."""
        if self._open and self._open[-1].caller is not None:
            self.end_found()
        begins = self.current in _MAY_HOLD_FORWARD
        if begins:
            self._begin(_Open(PhaseName.FORWARD, found=True))
        return begins

    def forward_ends(self) -> None:
        """The forward that a phase began with ends, and without gradients there is no loss to wait for."""
        if self._open and self._open[-1] == _Open(PhaseName.FORWARD, found=True):
            self._on_end(self._open.pop().name)

    def optimizer_begins(self, caller: FrameType) -> None:
        """An optimizer's step begins, called from ``caller``."""
        self.end_found()
        if self.current != PhaseName.OPTIMIZER:
            self._begin(_Open(PhaseName.OPTIMIZER, found=True, caller=(id(caller), caller.f_code)))

    def optimizer_ends(self) -> None:
        """An optimizer's step ends normally."""
        for depth in range(len(self._open) - 1, -1, -1):
            if not self._open[depth].found:
                return
            if self._open[depth].name == PhaseName.OPTIMIZER:
                self.end_down_to(depth)
                return

    def _begin(self, phase: _Open, value: int = 0) -> None:
        self._open.append(phase)
        self._on_begin(phase.name, value)


def _is_running(caller: Caller | None) -> bool:
    """Whether a frame is still running on this thread."""
    return caller is not None and any((id(f), f.f_code) == caller for f, _ in walk_stack(sys._getframe(1)))
