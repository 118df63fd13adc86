"""Keeps torch's allocator from warning, on the user's stderr, that it meets blocks older than a profile of ours."""

import ctypes
from pathlib import Path

import torch

_ERROR = 2
"""c10's level above warnings (c10/util/logging_is_not_google_glog.h)."""


class QuietAllocator:
    """Raises torch's log level while a profile runs; where torch was built another way, nothing changes."""

    def __init__(self) -> None:
        self._level = _log_level()
        self._before: int | None = None

    def begin(self) -> None:
        """Only errors from now on."""
        if self._level is not None and self._before is None:
            self._before = self._level.value
            self._level.value = max(_ERROR, self._before)

    def end(self) -> None:
        """As it was before."""
        if self._level is not None and self._before is not None:
            self._level.value, self._before = self._before, None


def _log_level() -> ctypes.c_int | None:
    """The variable behind torch's own log level."""
    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    try:
        return ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "FLAGS_caffe2_log_level")
    except (OSError, ValueError):
        return None
