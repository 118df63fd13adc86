"""The caching allocator's placement rules, one small pure function each.

All sizes are bytes. Every rule names the function of PyTorch it restates; those without a file live in
``c10/cuda/CUDACachingAllocator.cpp`` (unchanged from torch 2.10 to 2.15, but for `Choice`).
"""

from enum import Enum, auto

from vramscope.allocator.settings import MIB, AllocatorSettings

MIN_BLOCK = 512
"""``kMinBlockSize``: every block is a multiple of it."""
SMALL_LIMIT = 1 * MIB
"""``kSmallSize``: the largest block of the small pool."""
SMALL_SEGMENT = 2 * MIB
"""``kSmallBuffer``: the size of every segment of the small pool, and of its expandable pages."""
MIN_LARGE_SEGMENT_REQUEST = 10 * MIB
"""``kMinLargeAlloc``: from here on a request gets a segment of its own size."""
ROUND_LARGE = 2 * MIB
"""``kRoundLarge``: the granularity of segments made for one request."""


class Choice(Enum):
    """Which of several free blocks of one size is taken. With addresses that rise, all come to nearly the same."""

    LOWEST = auto()
    """The one at the lowest address: up to torch 2.11 (``BlockComparatorSize``)."""
    OLDEST_SEGMENT = auto()
    """That of the oldest segment, there the lowest: since torch 2.13 (``BlockComparatorSizeCounterAddress``)."""
    OLDEST_BLOCK = auto()
    """The oldest block: torch 2.12 (``BlockComparatorRegistrationCounter``). Of two parts the upper is the old one."""


_FIRST_INTERVAL_BITS = 20  # the list of divisions begins at 1 MiB, c10/core/AllocatorConfig.cpp


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


def round_request(size: int, settings: AllocatorSettings) -> int:
    """The block size for a request (``DeviceCachingAllocator::round_size``)."""
    if size < MIN_BLOCK:
        return MIN_BLOCK
    if settings.roundup_power2_divisions is not None:
        divisions = divisions_for(size, settings.roundup_power2_divisions)
        if divisions > 1 and size > MIN_BLOCK * divisions:
            return round_to_power2_division(size, divisions)
    return round_up(size, MIN_BLOCK)


def divisions_for(size: int, divisions: tuple[int, ...]) -> int:
    """The divisions that apply to a request, by the power of two below it.

    Entry 0 covers everything below 2 MiB, entry ``i`` the interval from ``2**i`` MiB, the last entry all above
    (``AcceleratorAllocatorConfig::roundup_power2_divisions``, c10/core/AllocatorConfig.cpp).
    """
    interval = size.bit_length() - 1 - _FIRST_INTERVAL_BITS
    return divisions[min(max(interval, 0), len(divisions) - 1)]


def round_to_power2_division(size: int, divisions: int) -> int:
    """``size`` rounded up to a multiple of (the power of two below it) / ``divisions``.

    ``DeviceCachingAllocator::roundup_power2_next_division``; both are powers of two and ``size > divisions``.
    """
    power_of_two_below = 1 << (size.bit_length() - 1)
    return round_up(size, power_of_two_below // divisions)


def is_small(block_size: int) -> bool:
    """Whether a rounded size belongs to the small pool (``DeviceCachingAllocator::get_pool``)."""
    return block_size <= SMALL_LIMIT


def segment_size(block_size: int, settings: AllocatorSettings) -> int:
    """What is asked of the driver when no cached block fits (``DeviceCachingAllocator::get_allocation_size``)."""
    if block_size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    if block_size < MIN_LARGE_SEGMENT_REQUEST:
        return settings.large_segment_size
    return round_up(block_size, ROUND_LARGE)


def page_size(small: bool, settings: AllocatorSettings) -> int:
    """The granularity in which an expandable segment grows (``find_expandable_block``)."""
    return SMALL_SEGMENT if small else settings.large_segment_size


def should_split(block_size: int, size: int, small: bool, expandable: bool, settings: AllocatorSettings) -> bool:
    """Whether a found block is cut to ``size`` or handed out whole (``DeviceCachingAllocator::should_split``).

    Args:
        block_size: bytes of the block that was found.
        size: bytes wanted, rounded.
        small: whether the block lies in the small pool.
        expandable: whether expandable segments are on.
        settings: for ``max_split_size``.
    """
    remaining = block_size - size
    if small or expandable:
        return remaining >= MIN_BLOCK
    unlimited = settings.max_split_size is None or size < settings.max_split_size
    return unlimited and remaining > SMALL_LIMIT


def refuses_hit(block_size: int, size: int, settings: AllocatorSettings) -> bool:
    """Whether a cached block that fits is passed over as oversize (the end of ``get_free_block``).

    A request below ``max_split_size`` may not take a block at or above it, and a larger request no block that exceeds
    it by ``max_non_split_rounding`` or more.
    """
    if settings.max_split_size is None:
        return False
    if size < settings.max_split_size:
        return block_size >= settings.max_split_size
    return block_size >= size + settings.max_non_split_rounding
