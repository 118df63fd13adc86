"""What the allocator keeps: blocks in segments, and pools of free blocks."""

from collections.abc import Iterator
from typing import TypeAlias

from sortedcontainers import SortedDict, SortedList

PoolId: TypeAlias = tuple[int, int]
_ADDRESS_BITS = 64
DEFAULT_POOL: PoolId = (0, 0)
"""The pool of ordinary allocations; CUDA graphs and ``torch.cuda.MemPool`` have ids of their own."""


class Block:
    """A run of bytes of one segment (``struct Block`` in c10/cuda/CUDACachingAllocator.cpp).

    ``previous`` and ``next`` are its neighbours in the segment. A block is in use (``allocated``), waiting for other
    streams (``pending``), free, or address space without memory (not ``mapped``). ``order`` says how old it or its
    segment is where `Choice` goes by that, else 0. Mutable, because the simulator moves millions.
    """

    __slots__ = (
        "address",
        "allocated",
        "birth_count",
        "expandable",
        "mapped",
        "next",
        "order",
        "pending",
        "pool",
        "previous",
        "requested",
        "size",
        "stream",
        "stream_uses",
    )

    def __init__(
        self, address: int, size: int, stream: int, pool: "Pool", expandable: "Reservation | None" = None
    ) -> None:
        """A free, mapped block without neighbours."""
        self.address = address
        self.size = size
        self.stream = stream
        self.pool = pool
        self.expandable = expandable
        self.requested = 0
        self.allocated = False
        self.pending = False
        self.mapped = True
        self.previous: Block | None = None
        self.next: Block | None = None
        self.stream_uses: frozenset[int] = frozenset()
        self.birth_count = 0
        self.order = 0

    @property
    def end(self) -> int:
        """The address behind its last byte."""
        return self.address + self.size

    @property
    def is_free(self) -> bool:
        """Whether it is memory that nobody holds."""
        return self.mapped and not self.allocated and not self.pending

    @property
    def is_split(self) -> bool:
        """Whether it is only a part of its segment (``Block::is_split``)."""
        return self.previous is not None or self.next is not None

    @property
    def rank(self) -> int:
        """What decides between free blocks of one size: the lower one is taken."""
        return self.order << _ADDRESS_BITS | self.address

    def age(self) -> int:
        """Searches of its pool since it became free (``Block::gc_count``)."""
        return self.pool.searches - self.birth_count

    def insert_after(self, following: "Block") -> None:
        """Link ``following``, a part of the same segment, behind this block."""
        following.order = self.order
        following.previous, following.next = self, self.next
        if self.next is not None:
            self.next.previous = following
        self.next = following

    def absorb_next(self) -> None:
        """Grow over the next block, which is dropped."""
        gone = self.next
        assert gone is not None
        self.size += gone.size
        self.next = gone.next
        if gone.next is not None:
            gone.next.previous = self


class Reservation:
    """An address range that an expandable segment grows in (``struct ExpandableSegment``)."""

    __slots__ = ("address", "page_size")

    def __init__(self, address: int, page_size: int) -> None:
        """The range begins at ``address`` and gets memory in pages of ``page_size`` bytes."""
        self.address = address
        self.page_size = page_size


class Pool:
    """The free blocks of one pool in the order in which they are tried (``struct BlockPool``).

    ``free`` holds per stream a sorted list of (size, rank, block); ``unmapped`` one of (address, block).
    """

    __slots__ = ("free", "id", "searches", "small", "unmapped")

    def __init__(self, small: bool, pool_id: PoolId = DEFAULT_POOL) -> None:
        """An empty pool."""
        self.small = small
        self.id = pool_id
        self.searches = 0
        self.free: SortedDict = SortedDict()
        self.unmapped: SortedDict = SortedDict()

    def insert(self, block: Block) -> None:
        """Put a free block in (``BlockPool::insert_into_blocks``)."""
        block.birth_count = self.searches
        blocks = self.free.get(block.stream)
        if blocks is None:
            blocks = self.free[block.stream] = SortedList()
        blocks.add((block.size, block.rank, block))

    def remove(self, block: Block) -> None:
        """Take a free block out; its size must still be the one it was put in with."""
        self.free[block.stream].remove((block.size, block.rank, block))

    def insert_unmapped(self, block: Block) -> None:
        """Put in a run of addresses without memory."""
        if block.stream not in self.unmapped:
            self.unmapped[block.stream] = SortedList()
        self.unmapped[block.stream].add((block.address, block))

    def remove_unmapped(self, block: Block) -> None:
        """Take out a run of addresses without memory."""
        self.unmapped[block.stream].remove((block.address, block))

    def unmapped_blocks(self, stream: int) -> Iterator[Block]:
        """The stream's unmapped runs by address."""
        return (block for _, block in self.unmapped.get(stream, ()))

    def free_blocks(self) -> list[Block]:
        """All free blocks in the order (stream, size, rank)."""
        return [block for blocks in self.free.values() for _, _, block in blocks]
