"""From tensors to what nvidia-smi shows: one sum whose every line says whose the bytes are."""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import Category
from vramscope.ledger.counters import counter_rows, value_at, values_at
from vramscope.ledger.ledger import Composition, Ledger
from vramscope.ledger.moments import innermost, inside_steps
from vramscope.recording.counters import DeviceCounter
from vramscope.recording.recording import ScopeKind

_LARGEST_SMALL_BLOCK = 1024**2
"""``kSmallSize`` of c10/cuda/CUDACachingAllocator.cpp: no block of the pool of large ones is as small."""


@dataclass(frozen=True)
class Reconciliation:
    """A GPU at the fullest of the moments at which it was read; bytes, None where nobody tells.

    What was requested, by category, and ``slack_bytes`` make ``allocated_bytes``; with ``pending_bytes`` (freed, but a
    stream may still use it) and ``cached_bytes`` (free, kept for later) they make ``reserved_bytes``; with
    ``outside_bytes`` (CUDA context, kernels, libraries) ``process_bytes``; with ``others_bytes`` ``used_bytes``. Used,
    free and the driver's own make the total. Where this process's share is not known, ``beyond_bytes`` is everything on
    the device that this allocator has not reserved. ``small_pool_bytes`` are in the ledger's blocks of the small pool,
    ``allocator_small_pool_bytes`` the allocator's own word on it, None where it gave none;
    ``allocator_requested_bytes`` is the allocator's own sum of requests, to compare with.
    """

    phase: str | None
    requested_by_category: Composition
    slack_bytes: int
    allocated_bytes: int
    pending_bytes: int
    cached_bytes: int
    reserved_bytes: int
    process_bytes: int | None
    used_bytes: int
    free_bytes: int
    driver_bytes: int
    total_bytes: int
    allocator_requested_bytes: int
    small_pool_bytes: int
    allocator_small_pool_bytes: int | None
    method: str

    @property
    def outside_bytes(self) -> int | None:
        """What this process uses beyond torch's allocator."""
        return None if self.process_bytes is None else self.process_bytes - self.reserved_bytes

    @property
    def others_bytes(self) -> int | None:
        """What other processes use."""
        return None if self.process_bytes is None else self.used_bytes - self.process_bytes

    @property
    def beyond_bytes(self) -> int:
        """What is used beyond torch's allocator, by whomever."""
        return self.used_bytes - self.reserved_bytes

    def adds_up(self) -> bool:
        """Whether every sum above holds, and nothing is negative that cannot be."""
        requested = sum(self.requested_by_category.values())
        sums = (
            requested + self.slack_bytes == self.allocated_bytes,
            self.allocated_bytes + self.pending_bytes + self.cached_bytes == self.reserved_bytes,
            self.used_bytes + self.free_bytes + self.driver_bytes == self.total_bytes,
        )
        parts = (
            self.slack_bytes,
            self.pending_bytes,
            self.cached_bytes,
            self.outside_bytes or 0,
            self.others_bytes or 0,
        )
        return all(sums) and min(parts) >= 0


def reconcile(ledger: Ledger, first: int, last: int, device: int) -> Reconciliation | None:
    """The sum for a device at the fullest sample of a window of events; None if the device was never read.

    Blocks that the allocator counts and the ledger has never seen, as of threads that were not recorded, are
    unattributed.
    """
    moment = _fullest(ledger, first, last, device)
    if moment is None:
        return None
    values = {name: value_at(ledger.recording, name, device, moment) for name in DeviceCounter}
    read = {name: value or 0 for name, value in values.items()}
    event = int(np.searchsorted(ledger.recording.events.time_ns, moment, side="right")) - 1
    held, requested = (ledger.composition(event, device, requested=asked) for asked in (False, True))
    allocated = read[DeviceCounter.ALLOCATED]
    slack = sum(held.values()) - sum(requested.values())
    unseen = allocated - sum(held.values())
    active, reserved = read[DeviceCounter.ACTIVE], read[DeviceCounter.RESERVED]
    methods = ledger.recording.environment.get("devices", {})
    return Reconciliation(
        phase=innermost(ledger.recording, ScopeKind.PHASE, moment, moment),
        requested_by_category={**requested, Category.UNATTRIBUTED: requested[Category.UNATTRIBUTED] + unseen},
        slack_bytes=slack,
        allocated_bytes=allocated,
        pending_bytes=active - allocated,
        cached_bytes=reserved - active,
        reserved_bytes=reserved,
        process_bytes=values[DeviceCounter.PROCESS],
        used_bytes=read[DeviceCounter.USED],
        free_bytes=read[DeviceCounter.FREE],
        driver_bytes=read[DeviceCounter.DRIVER],
        total_bytes=read[DeviceCounter.TOTAL],
        allocator_requested_bytes=read[DeviceCounter.REQUESTED],
        small_pool_bytes=_in_small_pool(ledger, event, device),
        allocator_small_pool_bytes=values[DeviceCounter.SMALL_POOL],
        method=str(methods.get(ledger.recording.devices[device].name, "")),
    )


def _in_small_pool(ledger: Ledger, event: int, device: int) -> int:
    blocks = ledger.blocks
    alive = blocks.alive_after(event) & (blocks.device == device) & (blocks.size <= _LARGEST_SMALL_BLOCK)
    return int(blocks.size[alive].sum())


def _fullest(ledger: Ledger, first: int, last: int, device: int) -> int | None:
    """When the process used most of the device; of several such moments the one with most allocated."""
    recording = ledger.recording
    rows = counter_rows(recording, DeviceCounter.ALLOCATED, device)
    times = recording.counters.time_ns[rows]
    has_steps = bool(np.any(recording.scopes.kind == ScopeKind.STEP))
    inside = inside_steps(ledger, times, times, first, last) if has_steps else np.ones(len(times), dtype=np.bool_)
    if not inside.any():
        return None
    times, allocated = times[inside], recording.counters.value[rows[inside]]
    process = np.maximum(values_at(recording, DeviceCounter.PROCESS, device, times), 0)  # unknown ones are all alike
    return int(times[np.lexsort((-times, allocated, process))[-1]])
