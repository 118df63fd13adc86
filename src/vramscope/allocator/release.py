"""How cached memory goes back to the driver: garbage collection, oversize blocks, everything."""

from typing import TYPE_CHECKING

from vramscope.allocator import expandable, rules
from vramscope.allocator.blocks import DEFAULT_POOL, Block, Pool, PoolId

if TYPE_CHECKING:
    from vramscope.allocator.simulator import Simulator


def release_segment(simulator: "Simulator", block: Block) -> None:
    """Return a free block that is its whole segment (``release_block``)."""
    block.pool.remove(block)
    del simulator.segments[block.address]
    simulator.totals.reserved -= block.size


def collect_garbage(simulator: "Simulator") -> None:
    """Release unused large segments, oldest first, above the threshold (``garbage_collect_cached_blocks``).

    Each round releases every block at least as old as the average of those left, until enough is gone.
    """
    assert simulator.allowed_bytes is not None
    threshold = int(simulator.settings.garbage_collection_threshold * simulator.allowed_bytes)
    target = simulator.totals.reserved - threshold
    if target <= 0:
        return
    # the count and the ages of unsplit expandable blocks are part of the average too, as in PyTorch
    left = [block for block in simulator.pool(False).free_blocks() if not block.is_split]
    released_bytes, progress = 0, True
    while left and progress and released_bytes < target:
        average_age = sum(block.age() for block in left) / len(left)
        young = []
        for block in left:
            if block.expandable is None and block.age() >= average_age:
                released_bytes += block.size
                release_segment(simulator, block)
            else:
                young.append(block)
        progress = len(young) < len(left)
        left = young


def release_oversize(simulator: "Simulator", pool: Pool, size: int, stream: int) -> bool:
    """Release oversize cached blocks, just enough for ``size`` (``release_available_cached_blocks``).

    Returns False if that is too little. Oversize blocks are whole segments, unless the limit came into force after they
    were split; the driver would refuse to take a part of a segment, so such blocks stay.
    """
    limit = simulator.settings.max_split_size
    if limit is None:
        return False
    wanted = max(size, limit)
    blocks = pool.free.get(stream, ())
    fitting = blocks.bisect_left((wanted,)) if blocks else 0
    if fitting < len(blocks) and _is_whole_segment(blocks[fitting][2]):
        release_segment(simulator, blocks[fitting][2])
        return True
    released_bytes = 0
    for block_size, _, block in reversed(list(blocks)[:fitting]):
        if released_bytes >= wanted or block_size < limit:
            break
        if _is_whole_segment(block):
            released_bytes += block_size
            release_segment(simulator, block)
    return released_bytes >= wanted


def _is_whole_segment(block: Block) -> bool:
    return block.expandable is None and not block.is_split


def release_cached_blocks(simulator: "Simulator", pool_id: PoolId = DEFAULT_POOL) -> None:
    """Release all that is free and whole; large pool first, then small (``release_cached_blocks``).

    Private pools are released once nobody refers to them; given one, only that is.
    """
    if pool_id == DEFAULT_POOL:
        simulator.finish_pending_in(None)
        release_pool(simulator, simulator.pool(False))
        release_pool(simulator, simulator.pool(True))
    private = simulator.freeable_pools - {DEFAULT_POOL}
    for freeable in sorted(private if pool_id == DEFAULT_POOL else private & {pool_id}):
        if pool_id != DEFAULT_POOL:
            simulator.finish_pending_in(pool_id)
        release_pool(simulator, simulator.pool(True, freeable))
        release_pool(simulator, simulator.pool(False, freeable))


def releasable_bytes(block: Block) -> int:
    """What could be returned of a free block: all of a whole segment, the whole pages of an expandable one."""
    if block.expandable is None:
        return 0 if block.is_split else block.size
    page, base = block.expandable.page_size, block.expandable.address
    return max(0, (block.end - base) // page * page - rules.round_up(block.address - base, page))


def release_pool(simulator: "Simulator", pool: Pool) -> None:
    """Release one pool's whole free segments and pages (``release_blocks``)."""
    free = pool.free_blocks()
    for block in free:
        if _is_whole_segment(block):
            release_segment(simulator, block)
    for block in free:
        if block.expandable is not None:
            expandable.unmap(simulator, block)
