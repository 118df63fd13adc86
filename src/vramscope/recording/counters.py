"""The names of counters: figures read at one moment, by device; bytes unless said otherwise."""

from enum import StrEnum


class DeviceCounter(StrEnum):
    """A GPU's allocator and the device around it, all read at the same moment.

    The first six are torch's own totals (``memory_stats``), `SMALL_POOL` what is allocated in the pool of small blocks,
    the others the driver's. `PEAK` is the highest `ALLOCATED`
    since the steady steps began, read only where nobody else watches it. `PROCESS` is this process's share of the
    device, missing where nobody tells.
    """

    ALLOCATED = "allocated"
    SMALL_POOL = "allocated_in_small_pool"
    PEAK = "max_memory_allocated"
    REQUESTED = "requested"
    ACTIVE = "active"
    RESERVED = "reserved"
    PROCESS = "process_used"
    USED = "device_used"
    FREE = "device_free"
    DRIVER = "driver_reserved"
    TOTAL = "device_total"


class LayoutCounter(StrEnum):
    """How the reserved memory of a GPU lay at a moment; `SEGMENTS` is a number, and the others are bytes.

    `RELEASABLE` is free in whole segments, `STUCK` free beside blocks in use, `PENDING` freed but waiting for a stream,
    `LARGEST_FREE` the largest free block.
    """

    RELEASABLE = "releasable"
    STUCK = "stuck"
    PENDING = "pending"
    LARGEST_FREE = "largest_free"
    SEGMENTS = "segments"


class FailureCounter(StrEnum):
    """An allocation that failed: what was asked, and what there was; `UNKNOWN` where nobody told.

    `ROUNDED` is 1 where both are known from an error's text only, which rounds them.
    """

    ASKED = "out_of_memory"
    AVAILABLE = "available"
    ROUNDED = "out_of_memory_rounded"
