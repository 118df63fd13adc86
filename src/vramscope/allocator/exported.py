"""Snapshots that vramscope exported from a recording: allocations and frees, but no segments to apply rules to."""

from collections import Counter

import numpy as np

from vramscope.allocator.blocks import Block, Pool
from vramscope.allocator.moment import Evidence, Layout, Moment, sites_of
from vramscope.allocator.replay import Replay, replay
from vramscope.allocator.snapshot.model import UNKNOWN, Action, Snapshot
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
    before = sum(block.requested for block in start)
    births, deaths = trace.action == Action.ALLOC, trace.action == Action.FREE_REQUESTED
    if before + sum(trace.size[births].tolist()) >= 2**63:
        raise RecordingError(f"{snapshot.name}: device {device}: the totals exceed 64 bits; it is damaged")
    allocated = before + np.cumsum(np.where(births, trace.size, np.where(deaths, -trace.size, 0)))
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
        block_size=np.where(births | deaths, trace.size, 0),
        marks=tuple(f"{count} × {what}" for what, count in marks.items()),
    )


def look_at_exported(snapshot: Snapshot, replayed: Replay, entry: int) -> Moment:
    """The moment after a trace entry (-1: at the start): how much was alive, and which lines had allocated it."""
    trace, born = snapshot.traces[replayed.device], dict[int, int]()
    alive = {block.address: block.requested for block in replayed.start.blocks}
    for index, (action, address, size, _, _) in enumerate(trace.rows(entry + 1)):
        if action == Action.ALLOC:
            alive[address], born[address] = size, index
        elif action == Action.FREE_REQUESTED:
            alive.pop(address, None)
            born.pop(address, None)
    evidence, pool = Evidence(snapshot, replayed.device, replayed.start), Pool(False)
    blocks = [Block(address, size, 0, pool) for address, size in alive.items()]
    held = sum(alive.values())
    return Moment(
        entry=entry,
        time_us=evidence.time_us(entry),
        layout=Layout(held, held, slack=0, pending=0, releasable=0, stuck=0, largest_free=0, segments=0),
        parts=(),
        sites=sites_of(blocks, born, evidence),
        workspaces=(),
        segments=(),
    )


def _start_blocks(snapshot: Snapshot, device: int, marks: Counter[str]) -> tuple[StartBlock, ...]:
    """What was alive before the first entry, found by walking back from what is alive in the end."""
    trace = snapshot.traces[device]
    alive = {
        block.address: StartBlock(block.address, block.size, block.size, stack=block.stack)
        for segment in snapshot.device_segments(device)
        for block in segment.blocks
    }
    columns = (trace.action, trace.address, trace.size)
    for action, address, size in zip(*(column[::-1].tolist() for column in columns), strict=True):
        if action == Action.FREE_REQUESTED:
            if address in alive:
                marks["blocks were freed whose memory another block holds"] += 1
            alive[address] = StartBlock(address, size, size)
        elif action == Action.ALLOC:
            block = alive.pop(address, None)
            if block is None:
                marks["allocations are neither freed later nor there in the end"] += 1
            elif block.requested != size:
                marks["allocations differ in size from what else is known of their block"] += 1
    return tuple(alive[address] for address in sorted(alive))
