"""The snapshot view: a pickle that PyTorch's memory_viz opens, of plain built-in types only.

Its shape is that of ``torch.cuda.memory._snapshot()`` (torch/csrc/cuda/memory_snapshot.cpp): segments with the blocks
that are alive at the end, and a trace of allocations and frees for every device.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vramscope.errors import UnsupportedError
from vramscope.ledger.categories import CATEGORIES
from vramscope.ledger.ledger import Ledger
from vramscope.names import EXPORTED_FROM, visible
from vramscope.recording.recording import ScopeKind
from vramscope.views.atomic import atomic_path

EXTENSION = "pickle"
_PROTOCOL = 4
_MOST_FRAMES = 40
_MOST_IN_SMALL_POOL = 1 << 20
"""kSmallSize in c10/cuda/CUDACachingAllocator.cpp."""
_BIRTH = ("segment_alloc", "alloc")
_DEATH = ("free_requested", "free_completed", "segment_free")

Frame = dict[str, Any]


def write_snapshot(ledger: Ledger, path: Path) -> None:
    """Write the events of the main kind of device as a CUDA memory snapshot; a CPU's count as device 0.

    A recording does not know of segments, so every block stands in one of its own: as much is reserved as allocated.

    Raises:
        UnsupportedError: the recording has no addresses.
        OutputError: the file cannot be written.
    """
    document = snapshot_document(ledger)
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(document, protocol=_PROTOCOL))


def snapshot_document(ledger: Ledger) -> dict[str, Any]:
    """What the pickle holds."""
    if len(ledger) and not ledger.recording.events.address.any():
        raise UnsupportedError("this recording has no addresses, so no snapshot can be made of it")
    places = _places(ledger)
    frames = _Frames(ledger)
    traces: list[list[Any]] = [[] for _ in range(max(places.values(), default=0) + 1)]
    segments: list[dict[str, Any]] = []
    for device, place in places.items():
        traces[place] = list(_trace(ledger, device, frames))
        segments += _segments(ledger, device, place, frames)
    return {
        "segments": segments,
        "device_traces": traces,
        "allocator_settings": {},
        "external_annotations": [],
        EXPORTED_FROM: _kind(ledger.recording.devices[0].name),
    }


def _kind(device_name: str) -> str:
    return device_name.partition(":")[0]


def _places(ledger: Ledger) -> dict[int, int]:
    """For each device of the main one's kind its number in the snapshot."""
    names = [device.name.partition(":") for device in ledger.recording.devices]
    kinds = {row: (kind, int(number) if number.isdecimal() else 0) for row, (kind, _, number) in enumerate(names)}
    return {row: number for row, (kind, number) in kinds.items() if kind == kinds[0][0]}


class _Frames:
    """The stack to show for a scope: Python lines where they are known, else what the scope is inside of."""

    def __init__(self, ledger: Ledger) -> None:
        self._recording = ledger.recording
        self._known: dict[tuple[int, int], list[Frame]] = {}

    def of(self, scope: int, category: int) -> list[Frame]:
        """The frames, innermost first, the block's category on top: memory_viz shows them as the stack."""
        if (scope, category) not in self._known:
            top = {"filename": "vramscope", "line": 0, "name": str(CATEGORIES[category])}
            self._known[scope, category] = [top, *self._above(scope)]
        return self._known[scope, category]

    def _above(self, scope: int) -> Iterator[Frame]:
        scopes = self._recording.scopes
        for _ in range(_MOST_FRAMES):
            if scope < 0:
                return
            yield self._frame(int(scopes.kind[scope]), self._recording.strings[int(scopes.name[scope])], scope)
            scope = int(scopes.parent[scope])

    def _frame(self, kind: int, name: str, scope: int) -> Frame:
        if kind == ScopeKind.PYTHON_FRAME and "|" in name:
            file, _, function = name.rpartition("|")
            line = int(self._recording.scopes.value[scope])
            return {"filename": visible(file), "line": line, "name": visible(function)}
        return {"filename": ScopeKind(kind).name.lower(), "line": 0, "name": visible(name) or "(the model itself)"}


def _trace(ledger: Ledger, device: int, frames: _Frames) -> Iterator[dict[str, Any]]:
    """Every event, with the bytes that the allocator counted, and that of the segment that stands around the block."""
    rows = ledger.event_rows[device]
    events, block = ledger.recording.events, ledger.blocks.of_event[rows]
    sizes = ledger.blocks.size[block]
    columns = (events.address[rows], events.size[rows], sizes, events.time_ns[rows] // 1000, events.scope[rows])
    category = ledger.category[block]
    silent, time_us = _silent_ends(ledger, device), 0
    values = zip(rows.tolist(), *(c.tolist() for c in (*columns, category)), strict=True)
    for row, address, signed, size, time_us, scope, code in values:
        while silent and ledger.blocks.death[silent[-1]] <= row:
            yield from _silent_free(ledger, silent.pop(), time_us, frames)
        entry = {"addr": address, "size": size, "stream": 0, "time_us": time_us, "frames": frames.of(scope, code)}
        for action in _BIRTH if signed > 0 else _DEATH:
            yield {"action": action, **entry}
    for block_row in reversed(silent):
        yield from _silent_free(ledger, block_row, time_us, frames)


def _silent_ends(ledger: Ledger, device: int) -> list[int]:
    """Blocks whose end no event tells of, the first to end last: without their frees a reader would not know them."""
    blocks = ledger.blocks
    rows = np.flatnonzero(blocks.silent & (blocks.device == device))
    return list(rows[np.argsort(-blocks.death[rows], kind="stable")].tolist())


def _silent_free(ledger: Ledger, block: int, time_us: int, frames: _Frames) -> Iterator[dict[str, Any]]:
    blocks = ledger.blocks
    stack = frames.of(int(blocks.birth_scope[block]), int(ledger.category[block]))
    size, address = int(blocks.size[block]), int(blocks.address[block])
    for action in _DEATH:
        yield {"action": action, "addr": address, "size": size, "stream": 0, "time_us": time_us, "frames": stack}


def _segments(ledger: Ledger, device: int, place: int, frames: _Frames) -> Iterator[dict[str, Any]]:
    """A segment around each block that is alive at the end, by address."""
    blocks = ledger.blocks
    alive = np.flatnonzero(blocks.alive_after(len(ledger) - 1) & (blocks.device == device))
    for block in alive[np.argsort(blocks.address[alive], kind="stable")].tolist():
        size, requested = int(blocks.size[block]), int(blocks.requested[block])
        stack = frames.of(int(blocks.birth_scope[block]), int(ledger.category[block]))
        yield {
            "device": place,
            "address": int(blocks.address[block]),
            "total_size": size,
            "allocated_size": size,
            "active_size": size,
            "requested_size": requested,
            "stream": 0,
            "segment_type": "large" if size > _MOST_IN_SMALL_POOL else "small",
            "segment_pool_id": (0, 0),
            "is_expandable": False,
            "frames": [],
            "blocks": [_block(int(blocks.address[block]), size, requested, stack)],
        }


def _block(address: int, size: int, requested: int, frames: list[Frame]) -> dict[str, Any]:
    return {
        "address": address,
        "size": size,
        "requested_size": requested,
        "state": "active_allocated",
        "frames": frames,
    }
