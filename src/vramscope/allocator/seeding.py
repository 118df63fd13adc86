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
    for segment in start.segments:
        if not segment.expandable:
            pool = simulator.pool(segment.small, segment.pool)
            whole = simulator.add_segment(segment.address, segment.size, segment.stream, pool)
            _fill(simulator, whole, blocks[segment.address])
    for group, members in groupby(sorted(_expandable(start), key=_order), key=group_of):
        _seed_range(simulator, group, list(members), blocks, bases)
    totals = simulator.totals
    totals.peak_allocated, totals.peak_active = totals.allocated, totals.active


def group_of(segment: StartSegment) -> Group:
    """What an expandable segment shares its address range with."""
    return segment.stream, segment.small, segment.pool


def _order(segment: StartSegment) -> tuple[Group, int]:
    return group_of(segment), segment.address


def _expandable(start: StartState) -> list[StartSegment]:
    return [segment for segment in start.segments if segment.expandable]


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
    simulator: Simulator,
    group: Group,
    members: list[StartSegment],
    blocks: dict[int, list[StartBlock]],
    bases: Mapping[Group, int],
) -> None:
    """One address range, with memory where the group's segments lie."""
    stream, small, pool_id = group
    base = bases.get(group, members[0].address)
    pool = simulator.pool(small, pool_id)
    end = members[-1].address + members[-1].size
    limit = min((other for other in bases.values() if other >= end), default=base + RESERVATION)
    # whole pages, and all of what is mapped however damaged the file
    page = rules.page_size(small, simulator.settings)
    size = max(min(limit - base, RESERVATION) // page * page, rules.round_up(end - base, page))
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
