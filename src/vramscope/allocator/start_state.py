"""What a device held when its trace began, found by walking the trace backwards from the final segments."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from sortedcontainers import SortedDict

from vramscope.allocator import rules
from vramscope.allocator.blocks import DEFAULT_POOL, PoolId
from vramscope.allocator.settings import AllocatorSettings
from vramscope.allocator.snapshot.model import UNKNOWN, Action, BlockState, Segment, Snapshot, Trace


@dataclass(slots=True)
class StartBlock:
    """A block alive at the start; ``size`` is None while unknown, ``bound`` the address where the next one begins."""

    address: int
    requested: int
    size: int | None
    pending: bool = False
    bound: int = 2**63
    stack: int = 0


@dataclass(frozen=True, slots=True)
class StartSegment:
    """A segment at the start; of an expandable segment, one mapped range."""

    address: int
    size: int
    stream: int
    small: bool
    pool: PoolId
    expandable: bool


@dataclass(frozen=True)
class StartState:
    """Segments and blocks at the start, by address.

    ``guessed`` are the addresses of blocks whose size rests on a rule, not on the file: they died within the trace,
    and what their rounding left over is known only as far as a neighbour shows it. ``marks`` are contradictions met
    on the way.
    """

    segments: tuple[StartSegment, ...]
    blocks: tuple[StartBlock, ...]
    guessed: frozenset[int] = frozenset()
    marks: tuple[str, ...] = ()

    def with_slack(self, slack: dict[int, int], settings: AllocatorSettings) -> "StartState":
        """The same state with some guessed blocks larger: ``slack`` bytes by address, beyond the rounded request."""
        blocks = tuple(
            replace(block, size=rules.round_request(block.requested, settings) + slack[block.address])
            if block.address in slack
            else block
            for block in self.blocks
        )
        return replace(self, blocks=blocks)


@dataclass
class _Walk:
    """The state while walking backwards."""

    segments: dict[int, StartSegment]
    alive: SortedDict
    ranges: SortedDict
    settings: AllocatorSettings
    sizes: "_SizesByAddress"
    marks: Counter[str] = field(default_factory=Counter)


class _SizesByAddress:
    """What a trace allocated where: tells the small pool's pages from the large pool's, which entries do not."""

    def __init__(self, trace: Trace | None) -> None:
        self._address = self._size = np.zeros(0, np.int64)
        if trace is not None and (trace.action == Action.SEGMENT_UNMAP).any():
            rows = np.flatnonzero(np.isin(trace.action, (Action.ALLOC, Action.FREE_REQUESTED, Action.FREE_COMPLETED)))
            rows = rows[np.argsort(trace.address[rows], kind="stable")]
            self._address, self._size = trace.address[rows], trace.size[rows]

    def are_small(self, address: int, size: int) -> bool | None:
        """Whether blocks within these bytes were of the small pool; None if there were none."""
        index = int(np.searchsorted(self._address, address))
        if index == len(self._address) or self._address[index] >= address + size:
            return None
        return bool(self._size[index] <= rules.SMALL_LIMIT)


def rebuild(snapshot: Snapshot, device: int) -> StartState:
    """The device's state before the first entry of its trace.

    A free block is whatever lies between two blocks in use: the allocator merges free neighbours. A block that the
    trace frees has the size its request rounds to; in the large pool, up to 1 MiB behind it that no other block ever
    held during its life is its own slack, because no free block of that pool is so small.
    """
    final = snapshot.device_segments(device)
    trace = snapshot.traces[device] if device < len(snapshot.traces) else None
    walk = _Walk(
        {s.address: _start_segment(s) for s in final if not s.expandable},
        SortedDict(),
        SortedDict({s.address: _start_segment(s) for s in final if s.expandable}),
        snapshot.settings,
        _SizesByAddress(trace),
    )
    for segment in final:
        for block in segment.blocks:
            if block.state is not BlockState.FREE:
                pending = block.state is BlockState.PENDING
                walk.alive[block.address] = StartBlock(
                    block.address, block.requested, block.size, pending, block.address + block.size, block.stack
                )
    if trace is not None:
        _walk_back(walk, trace)
    return _finish(walk)


def _start_segment(segment: Segment) -> StartSegment:
    return StartSegment(segment.address, segment.size, segment.stream, segment.small, segment.pool, segment.expandable)


def _walk_back(walk: _Walk, trace: Trace) -> None:
    columns = (trace.action, trace.address, trace.size, trace.stream, trace.pool)
    rows = zip(*(column[::-1].tolist() for column in columns), strict=True)
    for action, address, size, stream, number in rows:
        if action == Action.FREE_COMPLETED:
            _undo_completed(walk, address, size)
        elif action == Action.FREE_REQUESTED:
            _undo_requested(walk, address, size)
        elif action == Action.ALLOC:
            _undo_alloc(walk, address, size)
        elif action == Action.SEGMENT_ALLOC:
            if walk.segments.pop(address, None) is None:
                walk.marks["segments were made that are not there in the end"] += 1
        elif action == Action.SEGMENT_FREE:
            small = size == rules.SMALL_SEGMENT
            pool = DEFAULT_POOL if number == UNKNOWN else trace.pool_ids[number]
            walk.segments[address] = StartSegment(address, size, stream, small, pool, False)
        elif action == Action.SEGMENT_MAP:
            _undo_map(walk, address, size)
        elif action == Action.SEGMENT_UNMAP:
            _undo_unmap(walk, address, size, stream, None if number == UNKNOWN else trace.pool_ids[number])


def _undo_completed(walk: _Walk, address: int, requested: int) -> None:
    """Before it, the block waited for its streams. Its stack is that of the free, so it is not kept."""
    if address in walk.alive:
        walk.marks["blocks were freed whose memory another block holds"] += 1
    block = StartBlock(address, requested, None, True)
    alive = walk.alive
    index = alive.bisect_right(address)
    if index < len(alive):
        block.bound = alive.keys()[index]
    before = alive.bisect_left(address) - 1
    if before >= 0:
        neighbour = alive.values()[before]
        neighbour.bound = min(neighbour.bound, address)
    alive[address] = block


def _undo_requested(walk: _Walk, address: int, requested: int) -> None:
    """Before it, the block was allocated. A trace may lack the completions (``skip_actions``)."""
    block = walk.alive.get(address)
    if block is None:
        _undo_completed(walk, address, requested)
        block = walk.alive[address]
    if block.requested not in (-1, requested):
        walk.marks["frees differ in size from what else is known of their block"] += 1
    block.pending = False


def _undo_alloc(walk: _Walk, address: int, requested: int) -> None:
    block = walk.alive.pop(address, None)
    if block is None:
        walk.marks["allocations are neither freed later nor there in the end"] += 1
    elif block.requested not in (-1, requested):
        walk.marks["allocations differ in size from what else is known of their block"] += 1


def _undo_map(walk: _Walk, address: int, size: int) -> None:
    """Take ``[address, address + size)`` out of the mapped ranges."""
    index = walk.ranges.bisect_right(address) - 1
    holder = walk.ranges.values()[index] if index >= 0 else None
    if holder is None or holder.address + holder.size < address + size:
        walk.marks["memory was mapped that is not there in the end"] += 1
        return
    del walk.ranges[holder.address]
    _add_range(walk, holder, holder.address, address)
    _add_range(walk, holder, address + size, holder.address + holder.size)


def _undo_unmap(walk: _Walk, address: int, size: int, stream: int, pool: PoolId | None) -> None:
    """Put a range back, joined with mapped ranges that touch it."""
    small = walk.sizes.are_small(address, size)
    small = size % walk.settings.large_segment_size != 0 if small is None else small
    pattern = StartSegment(address, size, stream, small, pool or DEFAULT_POOL, True)
    start, stop = address, address + size
    index = walk.ranges.bisect_left(address)
    for near in [walk.ranges.values()[i] for i in (index - 1, index) if 0 <= i < len(walk.ranges)]:
        touches = near.address + near.size == address or near.address == address + size
        if touches and near.stream == stream and pool in (None, near.pool):
            pattern = near
            start, stop = min(start, near.address), max(stop, near.address + near.size)
            del walk.ranges[near.address]
    _add_range(walk, pattern, start, stop)


def _add_range(walk: _Walk, pattern: StartSegment, start: int, stop: int) -> None:
    if start < stop:
        walk.ranges[start] = StartSegment(start, stop - start, pattern.stream, pattern.small, pattern.pool, True)


def _finish(walk: _Walk) -> StartState:
    """Give every block its size and its segment."""
    segments = _disjoint(walk)
    starts = [segment.address for segment in segments]
    guessed, blocks, end_before = set(), [], 0
    for block in walk.alive.values():
        index = bisect_right(starts, block.address) - 1
        segment = segments[index] if index >= 0 else None
        if segment is None or block.address >= segment.address + segment.size:
            walk.marks["blocks lie in no segment at the start of the trace"] += 1
            continue
        if block.size is None:
            bound = min(block.bound, segment.address + segment.size)
            block.size, sure = _deduce_size(block, bound, segment, walk.settings)
            if not sure:
                guessed.add(block.address)
        if block.address < end_before or block.address + block.size > segment.address + segment.size:
            walk.marks["blocks overlap at the start of the trace"] += 1
            continue
        end_before = block.address + block.size
        blocks.append(block)
    marks = tuple(f"{count} × {what}" for what, count in walk.marks.items())
    return StartState(tuple(segments), tuple(blocks), frozenset(guessed), marks)


def _disjoint(walk: _Walk) -> list[StartSegment]:
    """All segments by address, without any that overlaps the one before."""
    kept: list[StartSegment] = []
    for segment in sorted([*walk.segments.values(), *walk.ranges.values()], key=lambda segment: segment.address):
        if segment.size <= 0 or (kept and segment.address < kept[-1].address + kept[-1].size):
            walk.marks["segments overlap at the start of the trace"] += 1
        else:
            kept.append(segment)
    return kept


def _deduce_size(block: StartBlock, bound: int, segment: StartSegment, settings: AllocatorSettings) -> tuple[int, bool]:
    """The size of a block that died within the trace, and whether it is certain."""
    rounded = rules.round_request(block.requested, settings)
    gap = bound - block.address - rounded
    if segment.small or segment.expandable or gap <= 0:
        return rounded, True
    if gap <= rules.SMALL_LIMIT:
        return rounded + gap, True
    return rounded, False
