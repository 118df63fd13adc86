"""The Recording: facts only, columnar. What they mean is the ledger's business."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vramscope.errors import RecordingError

DEVICE_MEMORY = "device_memory"
"""Counter: the bytes of memory that a device has."""
LOSS_SCOPE = "vramscope: loss"
"""User scope in which the workload's own loss function runs: part of the forward pass, though of no module."""
Integers = npt.NDArray[np.int64]
NO_SCOPE = -1
"""Index that stands for "no scope": an event outside every scope, or a root scope's parent."""
UNKNOWN = -1
"""Stands for a size or total that the source does not report."""


class ScopeKind(IntEnum):
    """What a named interval of a thread is."""

    STEP = 0
    PHASE = 1
    MODULE = 2
    OPERATOR = 3
    AUTOGRAD_NODE = 4
    COMPILED_GRAPH = 5
    USER = 6
    PYTHON_FRAME = 7


class MarkKind(IntEnum):
    """What was seen at an address at one moment, by looking at a live object."""

    PARAMETER = 0
    BUFFER = 1
    INPUT = 2
    GRADIENT = 3
    OPTIMIZER_STATE = 4
    ROOT_GRADIENT = 5
    KV_CACHE = 6
    COMMUNICATION = 7
    LIBRARY_WORKSPACE = 8
    TARGET = 9
    """Given to a loss as its target, or kept by an object that came as an input; says what a block is for only where
    nothing else does."""


class PhaseName(StrEnum):
    """The phases of a step, and what lies around the steps."""

    BUILD = "build"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"


class HostCounter(StrEnum):
    """Counters of the process's memory, in bytes."""

    RSS_BEFORE = "rss_before"
    """At the first moment of the recording."""
    RSS_PEAK = "rss_peak"
    """The highest since the counter of this name before."""
    PYTHON_HEAP_PEAK = "python_heap_peak"
    """As the RSS's; counted from what the heap was before the model was built."""


class Source(StrEnum):
    """Where the facts of a recording come from."""

    PROFILER = "profiler"
    VIRTUAL = "virtual"
    SNAPSHOT = "snapshot"


class _Columns:
    """Equal-length numpy columns; subclasses are frozen dataclasses of int64 arrays."""

    def __post_init__(self) -> None:
        """Refuse columns of unequal length or another type."""
        lengths = set()
        for column in self.column_names():
            values = getattr(self, column)
            if values.dtype != np.int64 or values.ndim != 1:
                raise RecordingError(f"{type(self).__name__}.{column} is not a column of 64-bit integers")
            lengths.add(len(values))
        if len(lengths) > 1:
            raise RecordingError(f"the columns of {type(self).__name__} differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(getattr(self, self.column_names()[0]))

    @classmethod
    def column_names(cls) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(item.name for item in fields(cls))  # type: ignore[arg-type]  # subclasses are dataclasses

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, ...]]) -> Self:
        """Columns from rows whose values stand in the order of the columns."""
        names = cls.column_names()
        table = np.asarray(rows, dtype=np.int64).reshape(len(rows), len(names))
        return cls(**{name: np.ascontiguousarray(table[:, index]) for index, name in enumerate(names)})

    @classmethod
    def concatenate(cls, parts: "list[Self]") -> Self:
        """The rows of several tables one after another."""
        if not parts:
            return cls.from_rows([])
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in cls.column_names()})

    def take(self, rows: npt.NDArray[Any] | slice) -> Self:
        """The chosen rows (indices, a boolean mask or a slice)."""
        return type(self)(**{name: getattr(self, name)[rows] for name in self.column_names()})


@dataclass(frozen=True)
class Scopes(_Columns):
    """Named intervals, a forest in which every parent stands before its children.

    ``name`` indexes the string table; ``thread`` is the recorder's thread number; ``sequence`` is the autograd sequence
    number, `UNKNOWN` where there is none: a backward node carries that of the forward operator that made it. ``value``
    is a step's index, a Python frame's line, and 0 elsewhere. A Python frame is named ``file|function``; it is the
    innermost scope of what it allocates, and its caller, where that is known, is its parent.
    """

    parent: Integers
    kind: Integers
    name: Integers
    start_ns: Integers
    end_ns: Integers
    thread: Integers
    sequence: Integers
    value: Integers


@dataclass(frozen=True)
class Events(_Columns):
    """One row per allocator event, in the order in which they happened.

    ``size`` is signed: negative for a free. ``requested`` is what the caller asked for, with the same sign, `UNKNOWN`
    where the source does not tell. ``total`` and ``reserved`` are the allocator's own running totals after the event.
    """

    time_ns: Integers
    address: Integers
    size: Integers
    requested: Integers
    device: Integers
    scope: Integers
    total: Integers
    reserved: Integers


@dataclass(frozen=True)
class Marks(_Columns):
    """At ``time_ns``, the storage at ``address`` held what ``kind`` and ``name`` say; ``size`` is that storage's bytes.

    ``owner`` indexes the string table: the parameter an optimizer state belongs to, the parameter a gradient is of.
    """

    time_ns: Integers
    address: Integers
    kind: Integers
    name: Integers
    owner: Integers
    size: Integers
    device: Integers


@dataclass(frozen=True)
class Counters(_Columns):
    """A named figure read at one moment: allocator statistics, device or process memory; in bytes unless named
    otherwise."""

    time_ns: Integers
    name: Integers
    device: Integers
    value: Integers


@dataclass(frozen=True)
class Seeds(_Columns):
    """Blocks that were alive when the recording began, found by looking at live objects or a snapshot.

    ``gone_ns`` is when a block was found to be gone although no event told of its end: the CPU's allocator reports
    no free for a block whose allocation no profile saw. `UNKNOWN` where there was no such finding.
    """

    address: Integers
    size: Integers
    requested: Integers
    device: Integers
    gone_ns: Integers


@dataclass(frozen=True)
class Device:
    """A device whose allocator the recording covers.

    ``start_total`` and ``end_total`` are the allocator's running totals read just before the first and just after the
    last
    event, so that an event missing at either end is noticed.
    """

    name: str
    description: str
    start_total: int
    end_total: int

    @property
    def is_cpu(self) -> bool:
        """Whether it is the CPU, whose allocator reserves nothing beyond what it hands out."""
        return self.name == "cpu"


@dataclass(frozen=True)
class Recording:
    """The facts of one run. See the tables' own docstrings for what their columns hold."""

    source: Source
    scopes: Scopes
    events: Events
    marks: Marks
    counters: Counters
    seeds: Seeds
    strings: tuple[str, ...]
    devices: tuple[Device, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    complete: bool = True

    def __post_init__(self) -> None:
        """Refuse tables that point outside one another."""
        _require_indices("scopes.parent", self.scopes.parent, np.arange(len(self.scopes)), NO_SCOPE)
        _require_indices("events.scope", self.events.scope, len(self.scopes), NO_SCOPE)
        for table, column in (
            (self.scopes, "name"),
            (self.marks, "name"),
            (self.marks, "owner"),
            (self.counters, "name"),
        ):
            _require_indices(f"{type(table).__name__}.{column}", getattr(table, column), len(self.strings), 0)
        for located in (self.events, self.marks, self.counters, self.seeds):
            _require_indices(f"{type(located).__name__}.device", located.device, len(self.devices), 0)

    def with_notes(self, *notes: str) -> "Recording":
        """The same recording with further remarks for the reader."""
        return replace(self, notes=self.notes + notes)


def _require_indices(what: str, values: Integers, bound: int | Integers, lowest: int) -> None:
    """Refuse a column whose values do not lie in ``[lowest, bound)``."""
    if len(values) and (np.any(values < lowest) or np.any(values >= bound)):
        raise RecordingError(f"{what} points outside its table: the recording is damaged")
