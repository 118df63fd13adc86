"""Expandable segments: one address range per stream and pool that gets and loses memory page by page.

Restates the functions of that name in c10/cuda/CUDACachingAllocator.cpp.
"""

from typing import TYPE_CHECKING, Any

from vramscope.allocator import rules
from vramscope.allocator.blocks import Block, Pool, Reservation

if TYPE_CHECKING:
    from vramscope.allocator.simulator import Simulator


def preferred_index(blocks: Any, index: int, enabled: bool) -> int:
    """Which of the fitting free blocks to take, as a position in the sorted list (middle of ``get_free_block``).

    With expandable segments on, a block counts as large as it could grow, so a larger block with less room behind it is
    preferred. Switched off again, blocks of expandable segments are passed over.
    """
    count = len(blocks)
    if not enabled:
        return next((i for i in range(index, count) if blocks[i][2].expandable is None), count)
    while (
        index + 1 < count
        and blocks[index][2].expandable is not None
        and expandable_size(blocks[index + 1][2]) < expandable_size(blocks[index][2])
    ):
        index += 1
    return index


def expandable_size(block: Block) -> int:
    """A free block's size with the unmapped addresses behind it."""
    following = block.next
    return block.size + (following.size if following is not None and not following.mapped else 0)


def allocate(simulator: "Simulator", pool: Pool, size: int, stream: int) -> Block | None:
    """A free block of at least ``size`` bytes, mapped page by page (``try_allocate_expandable_block``).

    None if the driver runs out; what was mapped until then stays cached.
    """
    candidate = _find(simulator, pool, size, stream)
    if not candidate.mapped:
        mapped = map_pages(simulator, candidate, min(candidate.size, size))
        if mapped is None:
            return None
        candidate = mapped
    while candidate.size < size:
        unmapped = candidate.next
        if unmapped is None or unmapped.mapped:
            return None  # not even an empty range is as large
        mapped = map_pages(simulator, unmapped, min(size - candidate.size, unmapped.size))
        if mapped is None:
            return None
        candidate = mapped
    pool.remove(candidate)
    return candidate


def _find(simulator: "Simulator", pool: Pool, size: int, stream: int) -> Block:
    """The lowest free or unmapped block from which ``size`` bytes can be had (``find_expandable_block``)."""
    for unmapped in pool.unmapped_blocks(stream):
        before: Block | None = unmapped.previous
        start = before if before is not None and before.is_free else unmapped
        if _has_room(start, size):
            return start
    return reserve(simulator, pool, stream)


def _has_room(block: Block | None, size: int) -> bool:
    room = 0
    while room < size and block is not None and not block.allocated and not block.pending:
        room += block.size
        block = block.next
    return room >= size


def reserve(simulator: "Simulator", pool: Pool, stream: int, where: tuple[int, int] | None = None) -> Block:
    """A new address range without memory, as one unmapped block; ``where`` is its address and bytes."""
    page = rules.page_size(pool.small, simulator.settings)
    if where is None:
        address, room = simulator.addresses.reservation()
        where = address, room // page * page
    address, size = where
    block = Block(address, size, stream, pool, Reservation(address, page))
    block.mapped = False
    simulator.register(block)
    pool.insert_unmapped(block)
    return block


def map_pages(simulator: "Simulator", block: Block, size: int) -> Block | None:
    """Back the first ``size`` bytes of an unmapped block with whole pages (``map_block``).

    Returns the free block that then holds them, None if the driver cannot give all pages.
    """
    assert block.expandable is not None
    size = min(rules.round_up(size, block.expandable.page_size), block.size)
    if not simulator.driver_can_give(size):
        return None
    block.pool.remove_unmapped(block)
    if size < block.size:
        rest = Block(block.address + size, block.size - size, block.stream, block.pool, block.expandable)
        rest.mapped = False
        block.size = size
        block.insert_after(rest)
        block.pool.insert_unmapped(rest)
    block.mapped = True
    simulator.grow_reserved(size)
    return simulator.make_free(block)


def unmap(simulator: "Simulator", block: Block) -> None:
    """Return the whole pages inside a free block; its ends stay free (``unmap_block``)."""
    reservation = block.expandable
    assert reservation is not None
    start = reservation.address + rules.round_up(block.address - reservation.address, reservation.page_size)
    stop = block.end - (block.end - reservation.address) % reservation.page_size
    if start < stop:
        unmap_range(simulator, block, start, stop)


def unmap_range(simulator: "Simulator", block: Block, start: int, stop: int) -> None:
    """Take the memory from ``[start, stop)``, page-aligned addresses inside a free block."""
    pool, reservation = block.pool, block.expandable
    assert reservation is not None
    pool.remove(block)
    middle = block
    if start > block.address:
        middle = Block(start, block.end - start, block.stream, pool, reservation)
        block.size = start - block.address
        block.insert_after(middle)
        pool.insert(block)
    if stop < middle.end:
        after = Block(stop, middle.end - stop, block.stream, pool, reservation)
        middle.size = stop - start
        middle.insert_after(after)
        pool.insert(after)
    middle.mapped = False
    simulator.totals.reserved -= stop - start
    _merge_unmapped(simulator, middle)


def _merge_unmapped(simulator: "Simulator", block: Block) -> None:
    """Join an unmapped block with unmapped neighbours; an empty range is given up (``release_expandable_segment``)."""
    pool = block.pool
    if block.previous is not None and not block.previous.mapped:
        pool.remove_unmapped(block.previous)
        block = block.previous
        block.absorb_next()
    if block.next is not None and not block.next.mapped:
        pool.remove_unmapped(block.next)
        block.absorb_next()
    if block.is_split:
        pool.insert_unmapped(block)
    else:
        del simulator.segments[block.address]
