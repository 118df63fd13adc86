"""Autograd's own threads: on them it runs the nodes of a backward pass that belong to a GPU, and their hooks."""

import threading

import torch

_NO_TASK = -1


class EngineThreads:
    """Tells whether this is the thread that is watched, or works for it; made on the former.

    A pass that was started on one thread runs its nodes of a GPU on a thread of autograd's own, while the first one
    waits. Where several GPUs work at once, one thread of them counts: two could not be told apart.
    """

    def __init__(self) -> None:
        self._own = threading.get_ident()
        self._engine: int | None = None

    def is_own(self) -> bool:
        """Whether this is the thread that is watched."""
        return threading.get_ident() == self._own

    def works_for_own(self) -> bool:
        """Whether this is that thread, or autograd's that runs a pass: no thread of Python's, which has its own."""
        ident = threading.get_ident()
        if ident == self._own:
            return True
        if torch._C._current_graph_task_id() == _NO_TASK:
            return False
        if self._engine is None and isinstance(threading.current_thread(), threading._DummyThread):
            self._engine = ident
        return ident == self._engine
