"""Snapshots that vramscope exported from a recording: allocations and frees, but no segments to apply rules to."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from vramscope.allocator.blocks import Block, Pool
from vramscope.allocator.moment import Evidence, Layout, Moment, sites_of
from vramscope.allocator.replay import Replay, replay
from vramscope.allocator.snapshot.model import UNKNOWN, Action, BlockState, Row, Snapshot
from vramscope.allocator.start_state import StartBlock, StartState
from vramscope.errors import RecordingError


def history_of(snapshot: Snapshot, device: int) -> Replay:
    """A device's history: replayed by the CUDA allocator's rules, or only added up where they do not apply."""
    return add_up(snapshot, device) if snapshot.exported_from else replay(snapshot, device)


def add_up(snapshot: Snapshot, device: int) -> Replay:
    """The totals of an exported trace: block sizes are those of the file, nothing is rounded or replayed.

    ``allocations`` and ``matched`` are 0, and what was reserved is `UNKNOWN`.

    Raises:
        RecordingError: the totals exceed 64 bits.
    """
    trace, marks = snapshot.traces[device], Counter[str]()
    start = _start_blocks(snapshot, device, marks)
    alive = _Alive(start)
    before = alive.bytes
    changes, totals = [], []
    for entry, row in enumerate(trace.rows()):
        changes.append(alive.apply(entry, row))
        totals.append(alive.bytes)
    if max(totals, default=before) >= 2**63:
        raise RecordingError(f"{snapshot.name}: device {device}: the totals exceed 64 bits; it is damaged")
    allocated = np.array(totals, np.int64)
    return Replay(
        device=device,
        start=StartState((), start),
        start_allocated=before,
        start_active=before,
        start_reserved=UNKNOWN,
        allocations=0,
        matched=0,
        first_mismatch=None,
        allocated=allocated,
        active=allocated,
        reserved=np.full(len(trace), UNKNOWN, np.int64),
        block_size=np.array(changes, np.int64),
        marks=tuple(f"{count} × {what}" for what, count in marks.items()),
    )


def look_at_exported(snapshot: Snapshot, replayed: Replay, entry: int) -> Moment:
    """The moment after a trace entry (-1: at the start): how much was alive, and which lines had allocated it."""
    alive = _Alive(replayed.start.blocks)
    for index, row in enumerate(snapshot.traces[replayed.device].rows(entry + 1)):
        alive.apply(index, row)
    evidence = Evidence(snapshot, replayed.device, replayed.start)
    blocks, born = alive.blocks()
    return Moment(
        entry=entry,
        time_us=evidence.time_us(entry),
        layout=Layout(alive.bytes, alive.bytes, slack=0, pending=0, releasable=0, stuck=0, largest_free=0, segments=0),
        parts=(),
        sites=sites_of(blocks, born, evidence),
        workspaces=(),
        segments=(),
    )


class _Alive:
    """What is alive while a trace is followed.

    An address can be held several times: a block whose free was not recorded stays counted, as in the totals of the
    allocator that the recording came from. Each block is its bytes and the entry that made it, -1 for the start.
    """

    def __init__(self, start: Iterable[StartBlock]) -> None:
        self._held: dict[int, list[tuple[int, int]]] = {}
        self.bytes = 0
        for block in start:
            self._add(block.address, block.requested, -1)

    def apply(self, entry: int, row: Row) -> int:
        """Do one entry; returns the bytes of the block that it allocated or freed, else 0."""
        action, address, size, _, _ = row
        if action == Action.ALLOC:
            self._add(address, size, entry)
            return size
        if action == Action.FREE_REQUESTED:
            freed = self._held[address].pop()[0]  # the walk back has given every free its block
            self.bytes -= freed
            return freed
        return 0

    def blocks(self) -> tuple[list[Block], dict[int, int]]:
        """The blocks, and by which entry each was made; two of one address must not share that, so it is no key."""
        pool, blocks, born = Pool(False), list[Block](), dict[int, int]()
        for address, held in self._held.items():
            for size, entry in held:
                key = address if entry < 0 else ~entry
                blocks.append(Block(key, size, 0, pool))
                if entry >= 0:
                    born[key] = entry
        return blocks, born

    def _add(self, address: int, size: int, entry: int) -> None:
        self._held.setdefault(address, []).append((size, entry))
        self.bytes += size


def _start_blocks(snapshot: Snapshot, device: int, marks: Counter[str]) -> tuple[StartBlock, ...]:
    """What was alive before the first entry, found by walking back from what is alive in the end."""
    trace, alive = snapshot.traces[device], dict[int, list[StartBlock]]()
    for segment in snapshot.device_segments(device):
        for block in segment.blocks:
            if block.state is not BlockState.FREE:
                known = StartBlock(block.address, block.size, block.size, stack=block.stack)
                alive.setdefault(block.address, []).append(known)
    columns = (trace.action, trace.address, trace.size)
    for action, address, size in zip(*(column[::-1].tolist() for column in columns), strict=True):
        held = alive.setdefault(address, [])
        if action == Action.FREE_REQUESTED:
            held.append(StartBlock(address, size, size))
        elif action == Action.ALLOC and not held:
            marks["allocations are neither freed later nor there in the end"] += 1
        elif action == Action.ALLOC and held.pop().requested != size:
            marks["allocations differ in size from what else is known of their block"] += 1
    doubled = sum(len(held) > 1 for held in alive.values())
    if doubled:
        marks["blocks lie on one another at the start of the trace"] += doubled
    return tuple(block for address in sorted(alive) for block in alive[address])
