"""Reads the profiler's tree of a run on fake tensors: the stamps of virtual memory become allocator events."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vramscope.recorders.conversion import TreeReader
from vramscope.recorders.stamps import StampKind, label
from vramscope.recorders.virtual.memory import VirtualEvent
from vramscope.recording.recording import UNKNOWN, Device, Events, ScopeKind

_VIRTUAL, _HIDDEN = label(StampKind.VIRTUAL), label(StampKind.HIDDEN)
_USER = label(StampKind.USER)
_DISPATCH = ("PythonDispatchMode", "PythonSubclass")
"""How torch names the passage of an operator through Python (c10/core/PythonFallbackKernel.cpp): no operator."""
_MAIN_DEVICE = 0


@dataclass
class VirtualReader(TreeReader):
    """Beside the fake blocks, real ones that torch makes on the way are kept: a number wrapped for an operator, say.

    ``virtual`` are the events that the stamps stand for, in the order of the stamps. Without ``keep_real`` the real
    ones are left out: they are the host's when the fake ones stand for a GPU's.
    """

    virtual: Sequence[VirtualEvent] = field(default_factory=tuple)
    keep_real: bool = True
    _next: int = 0
    _replaced: dict[int, int] = field(default_factory=dict)
    """Row of the event to replace by the address of a real block."""
    _gone: set[int] = field(default_factory=set)
    """Addresses of real blocks that a fake one has taken the place of: their frees are not wanted."""
    _places: dict[int, int] = field(default_factory=dict)

    def _add_scope(self, node: Any, parent: int) -> int | None:
        name = node.name
        if name == _VIRTUAL:
            self._add_virtual(node, parent)
            return None
        if name == _HIDDEN:
            return None
        if name in _DISPATCH:
            return parent
        if name.startswith(_USER):
            return self._append(node, parent, ScopeKind.USER, name.removeprefix(_USER), UNKNOWN)
        return super()._add_scope(node, parent)

    def _add_virtual(self, node: Any, parent: int) -> None:
        event = self.virtual[self._next]
        self._next += 1
        row = (node.start_time_ns, event.address, event.size, event.size, _MAIN_DEVICE, parent, UNKNOWN, UNKNOWN)
        place = self._places.pop(event.replaces, None) if event.replaces else None
        if place is None:
            self.events.append(row)
        else:  # the real block's own moment and scope stand
            before = self.events[place]
            self.events[place] = (before[0], event.address, event.size, event.size, *before[4:])
            self._gone.add(event.replaces)

    def _add_event(self, node: Any, parent: int) -> None:
        address, size = node.extra_fields.ptr, node.extra_fields.alloc_size
        if size < 0 and address in self._gone:
            self._gone.discard(address)
            return
        if not self.keep_real:
            return
        if size > 0:
            self._places[address] = len(self.events)
        super()._add_event(node, parent)


def with_totals(events: Events, device: Device) -> tuple[Events, Device]:
    """The events with the running total that an allocator serving both real and fake blocks would have reported."""
    known = _without_unborn(events)
    total = device.start_total + np.cumsum(known.size)
    end = int(total[-1]) if len(total) else device.start_total
    return replace(known, total=total, reserved=total), replace(device, end_total=end)


def _without_unborn(events: Events) -> Events:
    """Without the frees of blocks made where nobody looked, inside the fake tensors' own work."""
    alive: set[int] = set()
    keep = np.ones(len(events), dtype=np.bool_)
    for row, (address, size) in enumerate(zip(events.address.tolist(), events.size.tolist(), strict=True)):
        if size > 0:
            alive.add(address)
        elif address in alive:
            alive.discard(address)
        else:
            keep[row] = False
    return events.take(keep)
