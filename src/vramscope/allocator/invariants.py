"""What must hold of a simulator at any moment."""

from collections.abc import Iterator

from vramscope.allocator.blocks import Block
from vramscope.allocator.simulator import Simulator


class InvariantError(AssertionError):
    """The simulator contradicts itself: a defect of vramscope."""


def check(simulator: Simulator) -> None:
    """Verify that blocks tile segments without overlap and that counters and lists agree with them.

    Takes time linear in the number of blocks.

    Raises:
        InvariantError: naming what does not hold.
    """
    segments = simulator.segments.items()
    end_before = 0
    for address, first in segments:
        _require(address == first.address and first.previous is None, "a segment does not start with its first block")
        _require(address >= end_before, "segments overlap")
        end_before = _check_tiling(first)
    blocks = [block for _, first in segments for block in chain(first)]
    _check_counters(simulator, blocks)
    _check_lists(simulator, blocks)


def chain(first: Block) -> Iterator[Block]:
    """A segment's blocks by address."""
    block: Block | None = first
    while block is not None:
        yield block
        block = block.next


def _check_tiling(first: Block) -> int:
    """The address behind the segment; its blocks follow one another without a gap, free ones merged."""
    for block in chain(first):
        following = block.next
        if following is not None:
            _require(following.previous is block and block.end == following.address, "blocks do not tile their segment")
            _require(not (block.is_free and following.is_free), "two free neighbours are not merged")
            _require(block.mapped or following.mapped, "two unmapped neighbours are not merged")
        _require(
            block.size > 0 and block.stream == first.stream and block.pool is first.pool, "a block is out of place"
        )
        end = block.end
    return end


def _check_counters(simulator: Simulator, blocks: list[Block]) -> None:
    totals = simulator.totals
    active = [block for block in blocks if block.allocated or block.pending]
    _require(totals.allocated == sum(block.size for block in active if block.allocated), "allocated is not its sum")
    _require(totals.active == sum(block.size for block in active), "active is not its sum")
    _require(totals.requested == sum(block.requested for block in active), "requested is not its sum")
    _require(totals.reserved == sum(block.size for block in blocks if block.mapped), "reserved is not its sum")
    limits = [limit for limit in (simulator.capacity_bytes,) if limit is not None]
    _require(all(totals.reserved <= limit for limit in limits), "more is reserved than the driver has")


def _check_lists(simulator: Simulator, blocks: list[Block]) -> None:
    cached = {id(block) for pool in simulator.pools.values() for block in pool.free_blocks()}
    _require(cached == {id(block) for block in blocks if block.is_free}, "the free lists differ from the free blocks")
    unmapped = {
        id(block)
        for pool in simulator.pools.values()
        for stream in pool.unmapped
        for block in pool.unmapped_blocks(stream)
    }
    _require(unmapped == {id(block) for block in blocks if not block.mapped}, "the unmapped lists differ")
    in_use = {id(block) for block in simulator.in_use.values()}
    _require(in_use == {id(block) for block in blocks if block.allocated or block.pending}, "blocks in use differ")
    for pool in simulator.pools.values():
        for stream, entries in pool.free.items():
            _require(list(entries) == sorted(entries, key=lambda entry: entry[:2]), "a free list is out of order")
            _require(all(e[:2] == (e[2].size, e[2].rank) and e[2].stream == stream for e in entries), "stale entry")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(f"allocator simulator: {what}")
