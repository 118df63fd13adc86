"""Where a session's steps go: each to disk as it ends, with the cheap counters of the steps that are only counted."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vramscope.recorders.counters import with_counters
from vramscope.recorders.environment import describe_environment
from vramscope.recorders.scripts.live import children_rss
from vramscope.recording.file import RecordingWriter
from vramscope.recording.recording import Counters, Device, Events, Marks, Recording, Scopes, Seeds, Source

_FLUSH_SECONDS = 5.0
_STEP_SUFFIX = " step"
LIVE = "live bytes"
CHILD = "rss of "
_MAIN_DEVICE = 0


class PartStore:
    """Appends parts to a recording, and numbers the windows that they belong to."""

    def __init__(self, output: Path) -> None:
        self._writer = RecordingWriter(output)
        self._window = -1
        self._devices: tuple[Device, ...] = ()
        self._workload: Mapping[str, Any] = {}
        self._counters: list[tuple[int, str, int]] = []
        self._flushed = time.monotonic()
        self.parts = 0
        self.is_sealed = False

    def begin_window(self) -> None:
        """What is added from now on does not join up with what was added before."""
        self._window += 1

    def count(self, kind: str, index: int, live_bytes: int) -> None:
        """Note the live bytes at the end of a step."""
        now = time.time_ns()
        self._counters += [(now, kind + _STEP_SUFFIX, index), (now, LIVE, live_bytes)]
        if self.parts and time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._append(self._empty(), children=True)

    def add(self, recording: Recording) -> None:
        """Put a recorded step on disk, for good."""
        self._devices = tuple(replace(device, start_total=device.end_total) for device in recording.devices)
        self._workload = recording.workload
        self._append(recording, children=True)
        self.parts += 1
        if self.parts == 1:
            self._writer.discard_sealed()

    def seal(self, notes: Sequence[str], complete: bool) -> None:
        """Put the rest on disk and seal the file; without a step there is nothing to seal."""
        if not self.parts:
            self._writer.abandon()
            return
        if self._counters or notes or not complete:
            self._append(replace(self._empty(), notes=tuple(notes), complete=complete), children=False)
        self._writer.seal()
        self.is_sealed = True

    def _append(self, recording: Recording, children: bool) -> None:
        now = time.time_ns()
        rows = self._counters + [(now, CHILD + name, size) for name, size in (children_rss() if children else ())]
        of_device = [(when, name, _MAIN_DEVICE, value) for when, name, value in rows]
        self._writer.append(with_counters(recording, of_device), max(self._window, 0))
        self._counters = []
        self._flushed = time.monotonic()

    def _empty(self) -> Recording:
        """A part without events, which continues the one before."""
        return Recording(
            source=Source.PROFILER,
            scopes=Scopes.from_rows([]),
            events=Events.from_rows([]),
            marks=Marks.from_rows([]),
            counters=Counters.from_rows([]),
            seeds=Seeds.from_rows([]),
            strings=("",),
            devices=self._devices,
            environment=describe_environment(),
            workload=self._workload,
        )
