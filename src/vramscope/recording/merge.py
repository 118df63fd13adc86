"""The parts of a recording, one after another, as one Recording."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vramscope.recording.parts import Part
from vramscope.recording.recording import (
    NO_SCOPE,
    UNKNOWN,
    Counters,
    Device,
    Events,
    Integers,
    MarkKind,
    Marks,
    Recording,
    Scopes,
    Seeds,
    Source,
)

_HELD = (MarkKind.PARAMETER, MarkKind.BUFFER, MarkKind.GRADIENT, MarkKind.OPTIMIZER_STATE)
"""What models and optimizers hold: older than a window that has not seen it allocated, while a batch may have come in
other ways than from the allocator."""

_Place = tuple[int, int]
"""Device and address."""
_Named = tuple[int, int, int]
"""Kind, name and owner."""


def merge(parts: Iterable[Part]) -> Recording:
    """One Recording of all parts, of which there is at least one.

    Strings and devices are joined by name, scopes and the other rows stand part after part. A device spans from its
    first part's start to its last part's end. Its seeds are those of the first part that has it, and what a model holds
    that a later part of the window is the first to know; other later seeds repeat blocks of which events already tell.
    A single part is given back as it is.
    """
    rest = iter(parts)
    first, second = next(rest), next(rest, None)
    if second is None:
        return first.recording
    merger = _Merger(first.recording.source)
    for part in itertools.chain((first, second), rest):
        merger.add(part)
    return merger.recording()


class _Merger:
    """Collects parts; their tables are renumbered as they come."""

    def __init__(self, source: Source) -> None:
        """Begin with no parts."""
        self._source = source
        self._window: int | None = None
        self._strings: dict[str, int] = {}
        self._devices: dict[str, Device] = {}
        self._environment: dict[str, Any] = {}
        self._workload: dict[str, Any] = {}
        self._notes: dict[str, None] = {}
        self._complete = True
        self._scope_count = 0
        self._scopes: list[Scopes] = []
        self._events: list[Events] = []
        self._marks: list[Marks] = []
        self._counters: list[Counters] = []
        self._seeds: list[Seeds] = []
        self._places: set[_Place] = set()
        """Everything that seeds and events have told of."""
        self._named: set[_Named] = set()
        """What models were seen to hold."""

    def add(self, part: Part) -> None:
        """Take in the next part."""
        recording = part.recording
        is_new = np.asarray([device.name not in self._devices for device in recording.devices], dtype=np.bool_)
        self._add_devices(part)
        self._add_rows(recording, is_new, continues=self._window == part.window)
        self._environment.update(recording.environment)
        self._workload.update(recording.workload)
        self._notes.update(dict.fromkeys(recording.notes))
        self._complete = self._complete and recording.complete
        self._window = part.window

    def recording(self) -> Recording:
        """All parts as one."""
        return Recording(
            source=self._source,
            scopes=Scopes.concatenate(self._scopes),
            events=Events.concatenate(self._events),
            marks=Marks.concatenate(self._marks),
            counters=Counters.concatenate(self._counters),
            seeds=Seeds.concatenate(self._seeds),
            strings=tuple(self._strings),
            devices=tuple(self._devices.values()),
            environment=self._environment,
            workload=self._workload,
            notes=tuple(self._notes),
            complete=self._complete,
        )

    def _add_devices(self, part: Part) -> None:
        for device in part.recording.devices:
            known = self._devices.setdefault(device.name, device)
            if self._window == part.window:
                self._note_gap(part.index, known, device)
            self._devices[device.name] = replace(known, end_total=device.end_total)

    def _note_gap(self, index: int, before: Device, after: Device) -> None:
        """Parts of one window continue each other; where a device's totals say otherwise, the reader is told."""
        unseen_bytes = after.start_total - before.end_total
        if before is not after and unseen_bytes and UNKNOWN not in (before.end_total, after.start_total):
            note = f"the total of {after.name} changed by {unseen_bytes} bytes before part {index}: events are missing"
            self._notes[note] = None

    def _add_rows(self, part: Recording, is_new: npt.NDArray[np.bool_], continues: bool) -> None:
        names = _numbers(part.strings, self._strings)
        devices = _numbers((device.name for device in part.devices), {n: i for i, n in enumerate(self._devices)})
        scopes, events, marks, counters = part.scopes, part.events, part.marks, part.counters
        older = replace(part.seeds, device=devices[part.seeds.device])
        wanted = is_new[part.seeds.device]
        marks = replace(marks, name=names[marks.name], owner=names[marks.owner], device=devices[marks.device])
        held = list(_held(marks))
        if continues:
            wanted |= self._are_held_and_new(older, held)
        self._scopes.append(replace(scopes, parent=self._scope(scopes.parent), name=names[scopes.name]))
        self._events.append(replace(events, device=devices[events.device], scope=self._scope(events.scope)))
        self._marks.append(marks)
        self._counters.append(replace(counters, name=names[counters.name], device=devices[counters.device]))
        self._note_ended_seeds(older)
        self._seeds.append(older.take(wanted))
        self._places.update(_places(self._seeds[-1]), _places(self._events[-1]))
        self._named.update(named for named, _ in held)
        self._scope_count += len(scopes)

    def _are_held_and_new(self, seeds: Seeds, held: Sequence[tuple[_Named, _Place]]) -> npt.NDArray[np.bool_]:
        """Seeds that belong to a model and of which no part has told yet, nor of anything held under their names.

        What is held under a known name, but elsewhere, has come since, from elsewhere than the allocator.
        """
        new = {place for named, place in held if named not in self._named} - self._places
        return np.asarray([place in new for place in _places(seeds)], dtype=np.bool_)

    def _note_ended_seeds(self, later: Seeds) -> None:
        """A later part may be the one that finds a block gone of which no event tells."""
        gone = later.take(later.gone_ns != UNKNOWN)
        ends = dict(zip(_places(gone), gone.gone_ns.tolist(), strict=True))
        for number, seeds in enumerate(self._seeds if ends else []):
            known = zip(_places(seeds), seeds.gone_ns.tolist(), strict=True)
            column = [ends.get(place, UNKNOWN) if end == UNKNOWN else end for place, end in known]
            self._seeds[number] = replace(seeds, gone_ns=np.asarray(column, dtype=np.int64))

    def _scope(self, column: Integers) -> Integers:
        """A column of scope indices, in the merged numbering."""
        return np.where(column == NO_SCOPE, NO_SCOPE, column + self._scope_count)


def _places(rows: Seeds | Events | Marks) -> Iterator[_Place]:
    """Device and address of each row."""
    return zip(rows.device.tolist(), rows.address.tolist(), strict=True)


def _held(marks: Marks) -> Iterator[tuple[_Named, _Place]]:
    """What models and optimizers hold, and where it is."""
    held = marks.take(np.isin(marks.kind, _HELD))
    named = zip(held.kind.tolist(), held.name.tolist(), held.owner.tolist(), strict=True)
    return zip(named, _places(held), strict=True)


def _numbers(names: Iterable[str], table: dict[str, int]) -> Integers:
    """Where each name stands in the table, which takes in the new ones."""
    return np.asarray([table.setdefault(name, len(table)) for name in names], dtype=np.int64)
