"""What a snapshot holds, once read: final segments, traces as columns, stacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from typing import TypeAlias

from vramscope.allocator.blocks import DEFAULT_POOL, PoolId
from vramscope.allocator.settings import AllocatorSettings
from vramscope.recording.recording import UNKNOWN, Integers


class Action(IntEnum):
    """What a trace entry reports (``TraceEntry::Action``, c10/core/CachingDeviceAllocator.h)."""

    ALLOC = 0
    FREE_REQUESTED = 1
    FREE_COMPLETED = 2
    SEGMENT_ALLOC = 3
    SEGMENT_FREE = 4
    SEGMENT_MAP = 5
    SEGMENT_UNMAP = 6
    OOM = 7
    SNAPSHOT = 8
    ANNOTATE = 9
    OTHER = 10


class BlockState(StrEnum):
    """A block's state in the final segments."""

    ALLOCATED = "active_allocated"
    PENDING = "active_pending_free"
    FREE = "inactive"


class Hint(IntFlag):
    """What the frames of a stack tell about an allocation."""

    NONE = 0
    BACKWARD = 1
    OPTIMIZER = 2
    FORWARD = 4
    CUBLAS = 8
    CUDNN = 16
    COMMUNICATION = 32


@dataclass(frozen=True, slots=True)
class Frame:
    """One Python frame of a stack."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Stack:
    """The Python frames of a stack, innermost first, as indices of `Stacks.frames`; C++ frames only leave hints."""

    frames: tuple[int, ...]
    hints: Hint


@dataclass(frozen=True)
class Stacks:
    """The distinct stacks of a snapshot; number 0 is the empty one."""

    frames: tuple[Frame, ...]
    stacks: tuple[Stack, ...]


@dataclass(frozen=True, slots=True)
class SnapshotBlock:
    """A block of a final segment; ``requested`` is `UNKNOWN` where the file does not tell."""

    address: int
    size: int
    requested: int
    state: BlockState
    stack: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment at the moment of the snapshot; of an expandable segment, one mapped range."""

    device: int
    address: int
    size: int
    stream: int
    small: bool
    blocks: tuple[SnapshotBlock, ...]
    pool: PoolId = DEFAULT_POOL
    expandable: bool = False

    @property
    def end(self) -> int:
        """The address behind its last byte."""
        return self.address + self.size


Row: TypeAlias = tuple[int, int, int, int, int]
"""Action, address, size, stream and number of the pool of a trace entry."""


@dataclass(frozen=True)
class Trace:
    """One device's history, oldest first, as columns of equal length.

    ``size`` is the raw request for allocations and frees; ``time_us`` is `UNKNOWN` where the file has no times;
    ``stack`` indexes `Stacks.stacks`, ``pool`` the ``pool_ids`` (`UNKNOWN` in files that do not tell the pool). An
    entry of kind OOM has the device's free bytes in ``address``, -1 where the file does not tell.
    """

    action: Integers
    address: Integers
    size: Integers
    stream: Integers
    time_us: Integers
    stack: Integers
    pool: Integers
    pool_ids: tuple[PoolId, ...] = ()

    def rows(self, count: int | None = None) -> Iterator[Row]:
        """The first entries, all of them without ``count``, as numbers that cost no numpy scalar each."""
        columns = (self.action, self.address, self.size, self.stream, self.pool)
        return zip(*(column[:count].tolist() for column in columns), strict=True)

    def pool_of(self, entry: int) -> PoolId | None:
        """The pool that an entry's memory belongs to; None where the file does not tell."""
        number = int(self.pool[entry])
        return None if number == UNKNOWN else self.pool_ids[number]

    def __len__(self) -> int:
        """Entries in the trace."""
        return len(self.action)


@dataclass(frozen=True)
class Annotation:
    """One end of an interval that the program named, such as ``Optimizer.step#AdamW.step``."""

    device: int
    time_us: int
    name: str
    starts: bool


@dataclass(frozen=True)
class Snapshot:
    """A snapshot file's content.

    ``marks`` are contradictions found in it: figures that rest on it deserve doubt. ``unknown_actions`` counts trace
    entries of kinds this version does not know. ``exported_from`` is the kind of device whose recording vramscope
    exported as this file, empty for a snapshot of PyTorch's: an export has no segments of an allocator.
    """

    name: str
    segments: tuple[Segment, ...]
    traces: tuple[Trace, ...]
    stacks: Stacks
    settings: AllocatorSettings
    settings_text: str = ""
    annotations: tuple[Annotation, ...] = ()
    marks: tuple[str, ...] = ()
    unknown_actions: Mapping[str, int] = field(default_factory=dict)
    exported_from: str = ""

    def device_segments(self, device: int) -> list[Segment]:
        """The device's segments by address."""
        return sorted((s for s in self.segments if s.device == device), key=lambda segment: segment.address)

    def device_name(self, device: int) -> str:
        """A device as PyTorch writes it."""
        kind = self.exported_from or "cuda"
        return kind if kind == "cpu" else f"{kind}:{device}"

    @property
    def devices(self) -> list[int]:
        """The devices that have a history or hold memory."""
        traced = {device for device, trace in enumerate(self.traces) if len(trace)}
        return sorted(traced | {segment.device for segment in self.segments})


__all__ = [
    "UNKNOWN",
    "Action",
    "Annotation",
    "BlockState",
    "Frame",
    "Hint",
    "Row",
    "Segment",
    "Snapshot",
    "SnapshotBlock",
    "Stack",
    "Stacks",
    "Trace",
]
