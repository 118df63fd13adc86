"""A simulator of the CUDA caching allocator: every block lands where PyTorch puts it.

Restates ``DeviceCachingAllocator`` of c10/cuda/CUDACachingAllocator.cpp (native backend) for one device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sortedcontainers import SortedDict

from vramscope.allocator import expandable, release, rules
from vramscope.allocator.addresses import AddressSource, MadeUpAddresses
from vramscope.allocator.blocks import DEFAULT_POOL, Block, Pool, PoolId
from vramscope.allocator.settings import AllocatorSettings


class SimulatedOutOfMemory(Exception):
    """The simulated allocation failed after every retry.

    ``requested`` is the rounded request, ``allocated`` and ``reserved`` the totals at that moment, in bytes.
    """

    def __init__(self, requested: int, allocated: int, reserved: int) -> None:
        """Keep the figures for the caller's message."""
        super().__init__(f"no {requested} bytes: {allocated} allocated, {reserved} reserved")
        self.requested = requested
        self.allocated = allocated
        self.reserved = reserved


@dataclass(slots=True)
class Totals:
    """The allocator's counters (``DeviceStats``), bytes unless named otherwise.

    ``active`` also counts freed blocks that wait for another stream; ``requested`` is the callers' sum over active
    blocks. ``made_room`` counts allocations that got memory only after cached memory had gone back to the driver.
    """

    allocated: int = 0
    active: int = 0
    requested: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    retries: int = 0
    made_room: int = 0


class Simulator:
    """The allocator of one device.

    Args:
        settings: as in ``PYTORCH_CUDA_ALLOC_CONF``.
        capacity_bytes: what the driver can give at most; None for no bound.
        allowed_bytes: the process's own limit (``set_per_process_memory_fraction``), which garbage collection needs.
        addresses: where new segments lie; made up where None.
        choice: which of several free blocks of one size is taken.
    """

    def __init__(
        self,
        settings: AllocatorSettings | None = None,
        capacity_bytes: int | None = None,
        allowed_bytes: int | None = None,
        addresses: AddressSource | None = None,
        choice: rules.Choice = rules.Choice.LOWEST,
    ) -> None:
        """An allocator that holds nothing yet."""
        self.settings = settings or AllocatorSettings()
        self.capacity_bytes = capacity_bytes
        self.allowed_bytes = allowed_bytes
        self.addresses = addresses or MadeUpAddresses()
        self.totals = Totals()
        self.pools: dict[tuple[PoolId, bool], Pool] = {}
        self.freeable_pools: set[PoolId] = set()
        self.ordinary_pools: frozenset[PoolId] = frozenset()
        """Private pools that get ordinary segments whatever the settings: those with an allocator of their own."""
        self.segments: SortedDict = SortedDict()
        """The first block of every segment and address range, by address."""
        self.in_use: dict[int, Block] = {}
        self._choice = choice
        self._made = 0

    # -- what a program does -------------------------------------------------------------------------------------------

    def malloc(self, size: int, stream: int = 0, pool_id: PoolId | None = None, from_driver: bool = False) -> int:
        """Allocate ``size`` bytes on ``stream`` and return the address (``DeviceCachingAllocator::malloc``).

        Args:
            size: what the program asks for.
            stream: the stream that it will be used on.
            pool_id: a private pool; None for the default one.
            from_driver: pass over the cache, as a retry does.

        Raises:
            SimulatedOutOfMemory: neither the cache nor the driver could serve it.
        """
        rounded = rules.round_request(size, self.settings)
        pool = self.pool(rules.is_small(rounded), pool_id or DEFAULT_POOL)
        found = None if from_driver else self._find(pool, rounded, stream)
        block = found or self._miss(pool, rounded, stream)
        return self.hand_out(block, size, rounded)

    def record_stream(self, address: int, stream: int) -> None:
        """Note that another stream uses the block (``recordStream``): its free will wait for it."""
        block = self.in_use[address]
        if stream != block.stream:
            block.stream_uses |= {stream}

    def free(self, address: int) -> None:
        """Give the block back; with recorded streams only `finish_pending` makes it reusable (``free``)."""
        block = self.in_use[address]
        self.request_free(address)
        if not block.stream_uses:
            self.finish_pending(address)

    def request_free(self, address: int) -> None:
        """The first half of a free: the block counts as allocated no more but cannot be reused yet."""
        block = self.in_use[address]
        assert block.allocated, "freed twice"
        block.allocated = False
        block.pending = True
        self.totals.allocated -= block.size

    def finish_pending(self, address: int) -> None:
        """The second half: the other streams are done, the block joins its free neighbours (``free_block``)."""
        block = self.in_use.pop(address)
        assert block.pending, "not freed"
        block.pending = False
        block.stream_uses = frozenset()
        self.totals.active -= block.size
        self.totals.requested -= block.requested
        block.requested = 0
        self.make_free(block)

    def finish_pending_in(self, pool_id: PoolId | None) -> None:
        """Every stream is done with the blocks of a pool, None for all pools (``synchronize_and_free_events``)."""
        for block in [block for block in self.in_use.values() if block.pending]:
            if pool_id is None or block.pool.id == pool_id:
                self.finish_pending(block.address)

    def empty_cache(self, pool_id: PoolId = DEFAULT_POOL) -> None:
        """Return every whole free segment and page to the driver, or only those of a private pool (``emptyCache``)."""
        release.release_cached_blocks(self, pool_id)

    def release_pool(self, pool_id: PoolId) -> None:
        """Nobody refers to the private pool any more: its free blocks may go back to the driver (``releasePool``)."""
        self.freeable_pools.add(pool_id)

    # -- how it is served ----------------------------------------------------------------------------------------------

    @property
    def collects_garbage(self) -> bool:
        """Whether ages are tracked and old blocks released before asking the driver."""
        return self.allowed_bytes is not None and self.settings.garbage_collection_threshold > 0

    def expands(self, pool: Pool) -> bool:
        """Whether a pool grows in expandable segments (``is_expandable_segments_active``)."""
        return self.settings.expandable_segments and pool.id not in self.ordinary_pools

    def pool(self, small: bool, pool_id: PoolId = DEFAULT_POOL) -> Pool:
        """The pool for blocks of that kind, made when first asked for."""
        pool = self.pools.get((pool_id, small))
        if pool is None:
            pool = self.pools[pool_id, small] = Pool(small, pool_id)
        return pool

    def make_free(self, block: Block) -> Block:
        """Merge a block that nobody holds with its free neighbours, previous first, and cache the result."""
        previous, following, order = block.previous, block.next, block.order
        if previous is not None and previous.is_free:
            previous.pool.remove(previous)
            previous.absorb_next()
            block = previous
            block.order = order
        if following is not None and following.is_free:
            following.pool.remove(following)
            block.absorb_next()
        block.pool.insert(block)
        return block

    def add_segment(self, address: int, size: int, stream: int, pool: Pool) -> Block:
        """Take a new segment from the driver; its one block is not in the pool yet."""
        block = Block(address, size, stream, pool)
        self.register(block)
        self.grow_reserved(size)
        return block

    def register(self, block: Block) -> None:
        """Take note of the first block of a new segment or address range."""
        self.segments[block.address] = block
        if self._choice is not rules.Choice.LOWEST:
            block.order = self._next_order()

    def _next_order(self) -> int:
        self._made += 1
        return self._made

    def grow_reserved(self, size: int) -> None:
        """Count memory taken from the driver."""
        totals = self.totals
        totals.reserved += size
        if totals.reserved > totals.peak_reserved:
            totals.peak_reserved = totals.reserved

    def driver_can_give(self, size: int) -> bool:
        """Whether ``cudaMalloc`` would succeed."""
        return self.capacity_bytes is None or self.totals.reserved + size <= self.capacity_bytes

    def _find(self, pool: Pool, size: int, stream: int) -> Block | None:
        """Best fit in the cache (``get_free_block``)."""
        if self.collects_garbage:
            pool.searches += 1
        blocks = pool.free.get(stream)
        if not blocks:
            return None
        index = blocks.bisect_left((size,))
        expands = self.expands(pool)
        if expands or (index < len(blocks) and blocks[index][2].expandable is not None):
            index = expandable.preferred_index(blocks, index, expands)
        if index == len(blocks) or rules.refuses_hit(blocks[index][0], size, self.settings):
            return None
        found: Block = blocks.pop(index)[2]
        return found

    def _miss(self, pool: Pool, size: int, stream: int) -> Block:
        """No cached block fits: ask the driver, releasing cached memory as far as needed (``malloc``)."""
        before = self.totals.reserved
        for _ in self._making_room(pool, size, stream):
            kept = self.totals.reserved
            block = self._from_driver(pool, size, stream)
            if block is not None:
                self.totals.made_room += kept < before
                return block
        raise SimulatedOutOfMemory(size, self.totals.allocated, self.totals.reserved)

    def _making_room(self, pool: Pool, size: int, stream: int) -> Iterator[None]:
        """Release more at every turn, after which the driver is to be asked; the first one may release nothing."""
        if self.collects_garbage:
            release.collect_garbage(self)
        yield
        if release.release_oversize(self, pool, size, stream):
            yield
        release.release_cached_blocks(self)
        self.totals.retries += 1
        yield

    def _from_driver(self, pool: Pool, size: int, stream: int) -> Block | None:
        """A block fresh from the driver, or None (``alloc_block``)."""
        wanted = rules.segment_size(size, self.settings)
        if self.allowed_bytes is not None and self.totals.reserved + wanted > self.allowed_bytes:
            return None
        if self.expands(pool):
            return expandable.allocate(self, pool, size, stream)
        if not self.driver_can_give(wanted):
            return None
        return self.add_segment(self.addresses.segment(wanted), wanted, stream, pool)

    def hand_out(self, block: Block, requested: int, rounded: int) -> int:
        """Give a block that is in no list to the program, without what can be split off (``alloc_found_block``)."""
        if rules.should_split(block.size, rounded, block.pool.small, self.expands(block.pool), self.settings):
            self._split(block, rounded)
        block.allocated = True
        block.requested = requested
        self.in_use[block.address] = block
        totals = self.totals
        totals.allocated += block.size
        totals.active += block.size
        totals.requested += requested
        if totals.allocated > totals.peak_allocated:
            totals.peak_allocated = totals.allocated
        return block.address

    def _split(self, block: Block, size: int) -> None:
        """Keep the low ``size`` bytes; the rest becomes a free block."""
        rest = Block(block.address + size, block.size - size, block.stream, block.pool, block.expandable)
        block.size = size
        block.insert_after(rest)
        if self._choice is rules.Choice.OLDEST_BLOCK:  # it is the rest that goes on as the old block
            block.order = self._next_order()
        block.pool.insert(rest)
