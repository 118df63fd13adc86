"""Noticing that a test started threads: the recorder sees one thread, so what others allocate must be said."""

import sys
import threading
from types import FrameType
from typing import Any

_WITHOUT_TENSORS = frozenset({"tqdm._monitor"})
"""Whose kinds of threads make no tensors: a progress bar's looks at the clock."""


class ThreadWatch:
    """Takes the names of Python threads that start while it is on.

    It stands in for ``threading``'s profile function, which every thread calls as it begins and which takes itself out
    at once; one that was set before gets its place back, in the new threads too. Threads older than the watch are not
    noticed.
    """

    def __init__(self) -> None:
        """Off at first."""
        self._before: Any = None
        self._is_on = False
        self._started: list[str] = []

    @property
    def started(self) -> tuple[str, ...]:
        """The names of the threads that started, in order."""
        return tuple(self._started)

    def start(self) -> None:
        """Begin to notice, or go on."""
        if not self._is_on:
            self._is_on = True
            self._before = threading.getprofile()
            threading.setprofile(self._on_start)

    def stop(self) -> None:
        """Notice no more."""
        self._is_on = False
        if threading.getprofile() == self._on_start:  # else someone set another one meanwhile, which stays
            threading.setprofile(self._before)

    def _on_start(self, frame: FrameType, event: str, argument: object) -> None:
        thread = threading.current_thread()
        if type(thread).__module__ not in _WITHOUT_TENSORS:
            self._started.append(thread.name)
        sys.setprofile(self._before)
