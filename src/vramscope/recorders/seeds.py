"""Blocks older than a recording: known from live objects, watched until they are gone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from weakref import ref

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from vramscope.recorders.labels import Label
from vramscope.recording.recording import UNKNOWN, Events, MarkKind, Marks, Recording, Seeds

_PASSING = (MarkKind.INPUT, MarkKind.TARGET, MarkKind.ROOT_GRADIENT)
"""Marks of what nobody has to hold: a batch in numpy's memory may lie there before what is in doubt."""
Place = tuple[str, int]
"""A device's name and an address, which mean the same in every recording of a process."""


class SeedWatch:
    """Knows the storages that were alive when a recording began, without keeping them alive.

    Args:
        devices: those of the recording.
        on_end: is told the number of a storage that is about to go, on whichever thread that happens; returns whether
            it has taken note.
    """

    def __init__(self, devices: Sequence[torch.device], on_end: Callable[[int], bool] = lambda _: False) -> None:
        self._on_end = on_end
        self._devices = list(devices)
        self._number_by_name = {str(device): number for number, device in enumerate(devices)}
        self._number_by_device = {device: number for number, device in enumerate(devices)}
        self.labels: list[Label] = []
        """What was given to `watch`, with nothing alive in it."""
        self._numbers: dict[tuple[int, int], int] = {}
        self._rows: list[tuple[int, int, int, int]] = []
        self._listed: set[int] = set()
        self._doubtful: set[int] = set()
        self._alive: dict[int, StorageWeakRef] = {}
        self._followed: list[ref[torch.UntypedStorage]] = []
        self._told: set[int] = set()

    def know(self, blocks: Iterable[tuple[int, int, int, int]]) -> None:
        """Take note of all blocks (address, size, requested, device number) that a device's allocator has given out.

        Of such a device nothing else is a seed: a tensor over memory from elsewhere is not that allocator's.
        """
        for address, size, requested, device in blocks:
            if (device, address) not in self._numbers:
                self._numbers[device, address] = len(self._rows)
                self._rows.append((address, size, requested, device))

    def trust(self, devices: Iterable[int]) -> None:
        """Of these devices, by number, `know` tells everything."""
        self._listed.update(devices)

    def watch(self, labels: Iterable[Label]) -> None:
        """Take note of storages, each once."""
        for label in labels:
            self.labels.append(label.without_storage())
            device = self._number_by_device.get(label.device)
            if device is not None:
                self._add(label, device)

    def suspect(self, labels: Iterable[Label]) -> None:
        """Take note of storages that were found during the recording: what it did not see begin is older than it."""
        known = len(self._rows)
        for label in labels:
            device = self._number_by_device.get(label.device)
            if device is not None and (device, label.address) not in self._numbers and not _may_be_passing(label):
                self._add(label, device)
        self._doubtful.update(range(known, len(self._rows)))

    def _add(self, label: Label, device: int) -> None:
        place = (device, label.address)
        if place not in self._numbers and device not in self._listed and not _is_fake(label):
            number = self._numbers[place] = len(self._rows)
            self._rows.append((label.address, label.size, label.size, device))
            if label.storage is not None:
                self._alive[number] = StorageWeakRef(label.storage)
                self._follow(number, label.storage)

    def _follow(self, number: int, storage: torch.UntypedStorage) -> None:
        # torch keeps this object for as long as there is the storage that it stands for
        self._followed.append(ref(storage, partial(self._goes, number)))

    def _goes(self, number: int, reference: object) -> None:
        if self._on_end(number):
            self._told.add(number)

    def remove(self) -> None:
        """Have the end of no storage told of any longer."""
        self._followed.clear()

    def carry(self, place: Place, size: int, storage: StorageWeakRef | None) -> None:
        """Take note of a block, unless it is known already or its device is none of ours."""
        device = self._number_by_name.get(place[0])
        if device is not None and (device, place[1]) not in self._numbers and device not in self._listed:
            number = self._numbers[device, place[1]] = len(self._rows)
            self._rows.append((place[1], size, size, device))
            if storage is not None:
                self._alive[number] = storage
                alive = torch.UntypedStorage._new_with_weak_ptr(storage.cdata)
                if alive is not None:
                    self._follow(number, alive)

    def watched(self) -> dict[Place, StorageWeakRef]:
        """The storages that are not known to be gone."""
        places = {number: (str(self._devices[place[0]]), place[1]) for place, number in self._numbers.items()}
        return {places[number]: storage for number, storage in self._alive.items()}

    def ended(self) -> list[int]:
        """The numbers of the storages that are gone since the last call, but for those that were told of."""
        is_gone = torch.UntypedStorage._expired  # what `StorageWeakRef.expired` asks; phases wait for the answer
        gone = [number for number, storage in self._alive.items() if is_gone(storage.cdata)]
        for number in gone:
            del self._alive[number]
        return [number for number in gone if number not in self._told]

    def rows(self, ends: Mapping[int, int], events: Events, marks: Marks) -> Seeds:
        """The seeds of the recording, given when each was found gone (ns), its events and its marks."""
        born = self._begun_in(events, marks) if self._doubtful else set()
        return Seeds.from_rows(
            [(*row, ends.get(number, UNKNOWN)) for number, row in enumerate(self._rows) if number not in born]
        )

    def _begun_in(self, events: Events, marks: Marks) -> set[int]:
        """Those in doubt that the recording saw allocated before it saw what they are."""
        holding = marks.take(~np.isin(marks.kind, _PASSING))
        allocated, seen = _first_times(events.take(events.size > 0)), _first_times(holding)
        never = np.iinfo(np.int64).max
        places = {number: self._place_of(number) for number in self._doubtful}
        return {n for n, place in places.items() if allocated.get(place, never) < seen.get(place, never)}

    def _place_of(self, number: int) -> tuple[int, int]:
        address, _, _, device = self._rows[number]
        return device, address


def _may_be_passing(label: Label) -> bool:
    """Whether it is a buffer in memory of numpy's or of a file's: it may be another each time, and new."""
    return label.kind is MarkKind.BUFFER and label.storage is not None and not label.storage.resizable()


def _is_fake(label: Label) -> bool:
    """Whether it is of a fake tensor, whose storage is on ``meta`` whatever device the tensor names."""
    return label.storage is not None and label.storage.device.type == "meta"


def _first_times(rows: Events | Marks) -> dict[tuple[int, int], int]:
    """When each place, a device's number and an address, appears first (ns)."""
    columns = (rows.device[::-1].tolist(), rows.address[::-1].tolist(), rows.time_ns[::-1].tolist())
    return {(device, address): time_ns for device, address, time_ns in zip(*columns, strict=True)}


def unknown_inputs(recording: Recording) -> int:
    """How many places were marked as inputs of which the recording knows no block."""
    seeds, events, marks = recording.seeds, recording.events, recording.marks
    older = set(zip(seeds.device.tolist(), seeds.address.tolist(), strict=True))
    allocated = _first_times(events.take(events.size > 0))
    marked = _first_times(marks.take(marks.kind == MarkKind.INPUT))
    return sum(place not in older and allocated.get(place, t) >= t for place, t in marked.items())
