"""Puts a rebuilt start state into a simulator, so that a replay can begin in the middle of a process's life."""

from collections.abc import Iterator, Mapping
from itertools import groupby

from vramscope.allocator import expandable, invariants, rules
from vramscope.allocator.addresses import RESERVATION
from vramscope.allocator.blocks import Block, PoolId
from vramscope.allocator.simulator import Simulator
from vramscope.allocator.start_state import StartBlock, StartSegment, StartState

Group = tuple[int, bool, PoolId]
"""Stream, small and pool: what shares one address range of expandable segments."""


def seed(simulator: Simulator, start: StartState, bases: Mapping[Group, int]) -> None:
    """Take the start state's segments and blocks; what lies between the blocks is free.

    Args:
        simulator: an empty one.
        start: the state.
        bases: where expandable ranges begin, which may be below their lowest memory; none grows across another.
    """
    blocks = blocks_by_segment(start)
    runs = [
        list(run) for _, run in groupby(start.segments, key=lambda segment: (segment.expandable, group_of(segment)))
    ]
    floor = 0
    for members, following in zip(runs, [*runs[1:], None], strict=False):
        end = members[-1].address + members[-1].size
        if members[0].expandable:
            base = bases.get(group_of(members[0]), 0)
            base = base if floor <= base < members[0].address else members[0].address
            others = [following[0].address] if following else []
            above = min((other for other in (*others, *bases.values()) if other >= end), default=end + RESERVATION)
            _seed_range(simulator, members, blocks, base, above)
        else:
            _seed_segments(simulator, members, blocks)
        floor = end
    simulator.totals.peak_allocated = simulator.totals.allocated


def _seed_segments(simulator: Simulator, members: list[StartSegment], blocks: dict[int, list[StartBlock]]) -> None:
    """Ordinary segments."""
    for segment in members:
        pool = simulator.pool(segment.small, segment.pool)
        whole = simulator.add_segment(segment.address, segment.size, segment.stream, pool)
        _fill(simulator, whole, blocks[segment.address])


def group_of(segment: StartSegment) -> Group:
    """What an expandable segment shares its address range with."""
    return segment.stream, segment.small, segment.pool


def blocks_by_segment(start: StartState) -> dict[int, list[StartBlock]]:
    """The blocks of each segment, by the segment's address; both are sorted."""
    blocks: dict[int, list[StartBlock]] = {}
    rest = iter(start.blocks)
    block = next(rest, None)
    for segment in start.segments:
        inside = blocks[segment.address] = []
        while block is not None and block.address < segment.address + segment.size:
            inside.append(block)
            block = next(rest, None)
    return blocks


def _seed_range(
    simulator: Simulator, members: list[StartSegment], blocks: dict[int, list[StartBlock]], base: int, above: int
) -> None:
    """One address range from ``base`` up to ``above``, with memory where the segments lie."""
    stream, small, pool_id = group_of(members[0])
    pool = simulator.pool(small, pool_id)
    # whole pages, and all of what is mapped however damaged the file
    page = rules.page_size(small, simulator.settings)
    end = members[-1].address + members[-1].size
    size = max(min(above - base, RESERVATION) // page * page, end - base)
    tail = expandable.reserve(simulator, pool, stream, (base, size))
    for segment in members:
        pool.remove_unmapped(tail)
        mapped, rest = _carve(tail, segment.address, segment.size)
        if mapped is not tail:
            pool.insert_unmapped(tail)
        if rest is not None:
            pool.insert_unmapped(rest)
            tail = rest
        mapped.mapped = True
        simulator.grow_reserved(segment.size)
        _fill(simulator, mapped, blocks[segment.address])


def _fill(simulator: Simulator, whole: Block, inside: list[StartBlock]) -> None:
    """Cut a mapped run of memory into the blocks in use and the free ones between them."""
    end, rest = whole.end, whole
    for known in inside:
        assert known.size is not None
        block, behind = _carve(rest, known.address, known.size)
        _occupy(simulator, block, known)
        rest = behind or block
    for block in _until(whole, end):
        if block.is_free:
            block.pool.insert(block)


def _occupy(simulator: Simulator, block: Block, known: StartBlock) -> None:
    block.allocated, block.pending = not known.pending, known.pending
    block.requested = known.requested if known.requested >= 0 else block.size
    simulator.in_use[block.address] = block
    totals = simulator.totals
    totals.allocated += 0 if known.pending else block.size
    totals.active += block.size
    totals.requested += block.requested


def _until(first: Block, end: int) -> Iterator[Block]:
    return (block for block in invariants.chain(first) if block.address < end)


def _carve(block: Block, address: int, size: int) -> tuple[Block, Block | None]:
    """Cut ``[address, address + size)`` out of a block that is in no list; returns it and what is left behind it."""
    if address > block.address:
        block = cut(block, address - block.address)
    return block, cut(block, size) if size < block.size else None


def cut(block: Block, size: int) -> Block:
    """Keep ``size`` bytes of a block that is in no list; returns the new block behind it."""
    rest = Block(block.address + size, block.size - size, block.stream, block.pool, block.expandable)
    rest.mapped = block.mapped
    block.size = size
    block.insert_after(rest)
    return rest
