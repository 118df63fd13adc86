"""What torch's own parts tell of a script: scopes that are open, other profilers, loaded batches.

A profiler must not be started while a scope is open that an earlier one has seen: the scope's end would write into that
earlier one's memory. So the scopes that Python code opens are counted; profilers that the script starts are noticed.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from threading import get_ident
from typing import Any

from torch.autograd.profiler import profile, record_function
from torch.utils.data.dataloader import _BaseDataLoaderIter

from vramscope.recorders.autograd_threads import works_for
from vramscope.recorders.window import ProfilerWindow

_OPTIMIZER_STEP = "Optimizer.step#"  # torch/optim/optimizer.py, profile_hook_step


_MARK = "_put_there_by_vramscope"


def is_watched() -> bool:
    """Whether a session watches this process."""
    return bool(getattr(profile._prepare_trace, _MARK, False))


def replace_attribute(undo: ExitStack, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    """Put a wrapper in the place of an attribute; undone unless somebody has wrapped it since."""
    original = getattr(owner, name)
    installed = wraps(original)(wrapper(original))
    setattr(installed, _MARK, True)
    setattr(owner, name, installed)

    def restore() -> None:
        if getattr(owner, name) is installed:
            setattr(owner, name, original)

    undo.callback(restore)


class OpenScopes:
    """The ``record_function`` scopes that are open on the thread that is watched, or on one of autograd's that works
    for it; tells whenever one has closed."""

    def __init__(self, undo: ExitStack, on_closed: Callable[[], None]) -> None:
        self._thread = get_ident()
        self._on_closed = on_closed
        self._open: dict[int, tuple[str, bool]] = {}
        self.are_seen = False
        """Whether a profiler of ours is running."""
        replace_attribute(undo, record_function, "__enter__", self._entering)
        replace_attribute(undo, record_function, "__exit__", self._leaving)

    @property
    def hold_profiler(self) -> bool:
        """Whether a scope is open that a profiler of ours has seen begin."""
        return any(seen for _, seen in self._open.values())

    @property
    def are_in_optimizer(self) -> bool:
        """Whether torch's own scope around an optimizer's step is open; its hooks must not be changed meanwhile."""
        return any(name.startswith(_OPTIMIZER_STEP) for name, _ in self._open.values())

    def _entering(self, original: Any) -> Any:
        def enter(scope: Any) -> Any:
            entered = original(scope)
            if works_for(self._thread):
                self._open[id(scope)] = str(scope.name), self.are_seen
            return entered

        return enter

    def _leaving(self, original: Any) -> Any:
        def leave(scope: Any, *error: Any) -> Any:
            left = original(scope, *error)
            if self._open.pop(id(scope), None) is not None:
                self._on_closed()
            return left

        return leave


class OtherProfilers:
    """Profilers that the script starts itself: told before they begin, so that ours can make way."""

    def __init__(self, undo: ExitStack, on_start: Callable[[], None]) -> None:
        self._on_start = on_start
        self._running: set[int] = set()
        self.ours = False
        """Set while we start our own."""
        replace_attribute(undo, profile, "_prepare_trace", self._preparing)
        replace_attribute(undo, profile, "__exit__", self._stopping)

    @property
    def are_running(self) -> bool:
        """Whether the script is using a profiler now, ours not running."""
        return bool(self._running) or ProfilerWindow.is_busy()

    def _preparing(self, original: Any) -> Any:
        def prepare(profiler: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.ours:
                self._on_start()
                self._running.add(id(profiler))
            return original(profiler, *args, **kwargs)

        return prepare

    def _stopping(self, original: Any) -> Any:
        def stop(profiler: Any, *error: Any) -> Any:
            self._running.discard(id(profiler))
            return original(profiler, *error)

        return stop


class Loaders:
    """Sees every batch that a ``DataLoader`` gives, and those that its workers have handed over before their turn.

    So labels are known as inputs, although no model is ever called with them.
    """

    def __init__(self, undo: ExitStack, on_batch: Callable[[Any], None]) -> None:
        self._on_batch = on_batch
        replace_attribute(undo, _BaseDataLoaderIter, "__next__", self._loading)

    def _loading(self, original: Any) -> Any:
        def load(iterator: Any) -> Any:
            batch = original(iterator)
            self._on_batch(batch)
            ahead = getattr(iterator, "_task_info", {})  # by number: the worker, and the batch once it has come
            for _, *early in ahead.values():
                self._on_batch(early)
            return batch

        return load
