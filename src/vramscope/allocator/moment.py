"""One moment of a device: who held the memory, as far as a snapshot can tell, and how the rest lay about."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from vramscope.allocator import invariants, release
from vramscope.allocator.blocks import Block
from vramscope.allocator.pass_over import Pass
from vramscope.allocator.simulator import Simulator
from vramscope.allocator.snapshot.model import UNKNOWN, Frame, Hint, Snapshot
from vramscope.allocator.start_state import StartState

CUBLAS_WORKSPACE = 8_519_680
"""Bytes of cuBLAS's default workspace ``:4096:2:16:8``: 2 x 4 MiB + 8 x 16 KiB (ATen/cuda/CublasHandlePool.cpp)."""

_LIBRARY = re.compile(r"(?:^|/)(?:site-packages|dist-packages|torch|python3\.\d+)/|^<")


class PartKind(StrEnum):
    """What a block was made for, told by the evidence a snapshot has."""

    BEFORE = "before_recording"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer_step"
    WORKSPACE = "library_workspace"
    COMMUNICATION = "communication"
    OTHER = "other"


@dataclass(frozen=True)
class Part:
    """The blocks of one kind at a moment, in bytes; ``known_from`` names the evidence."""

    kind: PartKind
    bytes: int
    requested_bytes: int
    blocks: int
    known_from: str


@dataclass(frozen=True)
class Site:
    """A Python line and what its allocations held at a moment; without a line, ``function`` says why there is none."""

    file: str
    line: int
    function: str
    bytes: int
    blocks: int


@dataclass(frozen=True)
class Layout:
    """How the reserved bytes of a moment divide; they sum to ``reserved``.

    ``requested`` is what programs asked for and ``slack`` what rounding added; ``pending`` waits for other streams.
    ``releasable`` is free in whole segments or pages, ``stuck`` free beside blocks in use; ``largest_free`` is the
    largest allocation that the cache could serve at once.
    """

    reserved: int
    requested: int
    slack: int
    pending: int
    releasable: int
    stuck: int
    largest_free: int
    segments: int

    @property
    def allocated(self) -> int:
        """Bytes handed out, slack included."""
        return self.requested + self.slack

    @property
    def fragmentation(self) -> float:
        """The share of reserved bytes that is free but stuck, from 0 to 1."""
        return self.stuck / self.reserved if self.reserved else 0.0


@dataclass(frozen=True)
class Workspace:
    """A buffer of a library inside the allocator, and how it was recognised."""

    address: int
    bytes: int
    library: str
    known_from: str


@dataclass(frozen=True)
class MapBlock:
    """A stretch of a segment for the segment map; ``kind`` is None where nobody holds it."""

    offset: int
    size: int
    kind: PartKind | None
    pending: bool


@dataclass(frozen=True)
class MapSegment:
    """A segment (or mapped range) for the segment map."""

    address: int
    size: int
    blocks: tuple[MapBlock, ...]


@dataclass(frozen=True)
class Moment:
    """The state after one trace entry (-1: at the start); ``time_us`` is `UNKNOWN` where the file has no times."""

    entry: int
    time_us: int
    layout: Layout
    parts: tuple[Part, ...]
    sites: tuple[Site, ...]
    workspaces: tuple[Workspace, ...]
    segments: tuple[MapSegment, ...]


class Evidence:
    """Looks up what a snapshot knows of a device's blocks."""

    def __init__(self, snapshot: Snapshot, device: int, start: StartState) -> None:
        """Index the optimizer's intervals and the stacks of start blocks."""
        self._snapshot = snapshot
        self._trace = snapshot.traces[device]
        self._start_stacks = {block.address: block.stack for block in start.blocks}
        self._optimizer_steps = _intervals(snapshot, device)

    def stack_of(self, block: Block, born: dict[int, int]) -> int:
        """The number of the stack that allocated a block; 0, the empty one, if it was not recorded."""
        entry = born.get(block.address)
        return self._start_stacks.get(block.address, 0) if entry is None else int(self._trace.stack[entry])

    def kind(self, block: Block, born: dict[int, int]) -> tuple[PartKind, str]:
        """What a block was made for, and the evidence."""
        return self.kind_of(block.requested, self.stack_of(block, born), born.get(block.address))

    def kind_of(self, requested: int, stack_number: int, entry: int | None) -> tuple[PartKind, str]:
        """What an allocation was for, and the evidence.

        Args:
            requested: its bytes.
            stack_number: its stack in `Stacks.stacks`.
            entry: the trace entry that made it, None for one from before.
        """
        stack = self._snapshot.stacks.stacks[stack_number]
        for hint, kind, evidence in _BY_HINT:
            if stack.hints & hint:
                return kind, evidence
        if requested == CUBLAS_WORKSPACE and not stack.frames:
            return PartKind.WORKSPACE, "the size of cuBLAS's default workspace"
        if entry is not None and self._in_optimizer_step(int(self._trace.time_us[entry])):
            return PartKind.OPTIMIZER, "the program's Optimizer.step annotation"
        if stack.hints & Hint.BACKWARD:
            return PartKind.BACKWARD, "autograd's engine in the stack"
        if stack.hints & Hint.FORWARD:
            return PartKind.FORWARD, "a module's forward in the stack, no backward"
        if entry is None:
            return PartKind.BEFORE, "alive when the trace begins; parameters, optimizer state and inputs look alike"
        return PartKind.OTHER, "a stack that names none of the other kinds" if stack.frames else "no stack recorded"

    def site(self, block: Block, born: dict[int, int]) -> Frame:
        """The innermost frame of the program's own code, else of any Python code."""
        stack = self._snapshot.stacks.stacks[self.stack_of(block, born)]
        frames = [self._snapshot.stacks.frames[number] for number in stack.frames]
        own = next((frame for frame in frames if not _LIBRARY.search(frame.file)), None)
        recorded = block.address in born or stack.hints
        missing = "(no Python frame recorded)" if recorded else "(from before the recording, no line known)"
        missing = "(backward, on a thread without Python frames)" if stack.hints & Hint.BACKWARD else missing
        return own or next(iter(frames), Frame(missing, "", 0))

    def time_us(self, entry: int) -> int:
        """When an entry was recorded; for the start, when the first was."""
        return int(self._trace.time_us[max(entry, 0)]) if len(self._trace) else UNKNOWN

    def _in_optimizer_step(self, time_us: int) -> bool:
        return time_us != UNKNOWN and any(start <= time_us <= stop for start, stop in self._optimizer_steps)


_BY_HINT = (
    (Hint.CUBLAS, PartKind.WORKSPACE, "cuBLAS's workspace functions in the stack"),
    (Hint.CUDNN, PartKind.WORKSPACE, "cuDNN's workspace in the stack"),
    (Hint.COMMUNICATION, PartKind.COMMUNICATION, "c10d or NCCL in the stack"),
    (Hint.OPTIMIZER, PartKind.OPTIMIZER, "torch/optim in the stack"),
)


def look_at(run: Pass, entry: int, evidence: Evidence) -> Moment:
    """Describe the moment that a pass over a trace has reached."""
    simulator, born = run.simulator, run.born
    live = [block for block in simulator.in_use.values() if block.allocated]
    kinds = {id(block): evidence.kind(block, born) for block in live}
    return Moment(
        entry=entry,
        time_us=evidence.time_us(entry),
        layout=_layout(simulator),
        parts=_parts(live, kinds),
        sites=sites_of(live, born, evidence),
        workspaces=_workspaces(live, kinds),
        segments=_segment_map(simulator, kinds),
    )


def _parts(live: list[Block], kinds: dict[int, tuple[PartKind, str]]) -> tuple[Part, ...]:
    """The kinds that occur, largest first; their bytes sum to what is allocated."""
    held, requested, count = Counter[PartKind](), Counter[PartKind](), Counter[PartKind]()
    evidence: dict[PartKind, dict[str, None]] = {}
    for block in live:
        kind, known_from = kinds[id(block)]
        held[kind] += block.size
        requested[kind] += block.requested
        count[kind] += 1
        evidence.setdefault(kind, {})[known_from] = None
    return tuple(
        Part(kind, size, requested[kind], count[kind], "; ".join(evidence[kind])) for kind, size in held.most_common()
    )


def sites_of(live: Iterable[Block], born: dict[int, int], evidence: Evidence) -> tuple[Site, ...]:
    """What the blocks of each Python line hold, largest first."""
    held, count = Counter[Frame](), Counter[Frame]()
    for block in live:
        frame = evidence.site(block, born)
        held[frame] += block.size
        count[frame] += 1
    return tuple(Site(frame.file, frame.line, frame.function, size, count[frame]) for frame, size in held.most_common())


def _workspaces(live: list[Block], kinds: dict[int, tuple[PartKind, str]]) -> tuple[Workspace, ...]:
    found = []
    for block in sorted(live, key=lambda block: block.address):
        kind, known_from = kinds[id(block)]
        if kind is PartKind.WORKSPACE:
            library = "cuDNN" if known_from.startswith("cuDNN") else "cuBLAS"
            found.append(Workspace(block.address, block.size, library, known_from))
    return tuple(found)


def _layout(simulator: Simulator) -> Layout:
    free = [block for pool in simulator.pools.values() for block in pool.free_blocks()]
    releasable = sum(release.releasable_bytes(block) for block in free)
    totals = simulator.totals
    requested = sum(block.requested for block in simulator.in_use.values() if block.allocated)
    return Layout(
        reserved=totals.reserved,
        requested=requested,
        slack=totals.allocated - requested,
        pending=totals.active - totals.allocated,
        releasable=releasable,
        stuck=sum(block.size for block in free) - releasable,
        largest_free=max((block.size for block in free), default=0),
        segments=len(simulator.segments),
    )


def _segment_map(simulator: Simulator, kinds: dict[int, tuple[PartKind, str]]) -> tuple[MapSegment, ...]:
    """Every run of mapped memory with its blocks, by address."""
    segments: list[MapSegment] = []
    for _, first in simulator.segments.items():
        run: list[Block] = []
        for block in [*invariants.chain(first), None]:
            if block is not None and block.mapped:
                run.append(block)
            elif run:
                segments.append(_map_segment(run, kinds))
                run = []
    return tuple(segments)


def _map_segment(run: list[Block], kinds: dict[int, tuple[PartKind, str]]) -> MapSegment:
    base = run[0].address
    blocks = tuple(
        MapBlock(block.address - base, block.size, kinds.get(id(block), (None, ""))[0], block.pending) for block in run
    )
    return MapSegment(base, run[-1].end - base, blocks)


def _intervals(snapshot: Snapshot, device: int) -> list[tuple[int, int]]:
    """The optimizer steps that the program annotated (``Optimizer.step#…``), as (start, stop) in microseconds.

    One that has no end goes on when the snapshot is taken, as where memory ran out in it.
    """
    intervals, start = [], None
    for note in snapshot.annotations:
        if note.device == device and note.name.startswith("Optimizer.step"):
            if note.starts:
                start = note.time_us
            elif start is not None:
                intervals.append((start, note.time_us))
                start = None
    return intervals if start is None else [*intervals, (start, sys.maxsize)]
