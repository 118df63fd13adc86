"""Traces worked out by hand from the rules; offsets are counted from the first segment's address."""

import pytest
from snapshot_builder import Falling

from vramscope.allocator.addresses import FIRST_ADDRESS as BASE
from vramscope.allocator.addresses import RESERVATION
from vramscope.allocator.invariants import InvariantError, check
from vramscope.allocator.rules import Choice
from vramscope.allocator.settings import MIB, parse_settings
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator

KIB = 1024


def test_small_requests_share_a_segment_of_2_mib() -> None:
    simulator = Simulator()
    addresses = [simulator.malloc(size) for size in (1000, 512, 600)]
    # 1000 -> 1024, 512 -> 512, 600 -> 1024, packed from the low end
    assert [address - BASE for address in addresses] == [0, 1024, 1536]
    assert (simulator.totals.allocated, simulator.totals.reserved) == (2560, 2 * MIB)
    assert simulator.totals.requested == 2112
    check(simulator)


def test_the_smallest_free_block_that_fits_is_taken_the_lowest_among_equals() -> None:
    simulator = Simulator()
    sizes = [4096, 512, 2048, 512, 2048, 512, 1024, 512]
    addresses = [simulator.malloc(size) for size in sizes]
    for index in (0, 2, 4, 6):  # free 4096, 2048, 2048 and 1024, none of them neighbours
        simulator.free(addresses[index])
    assert simulator.malloc(1500) == addresses[2]  # 1536 fits both blocks of 2048 best; the lower one is taken
    assert simulator.malloc(1500) == addresses[4]
    assert simulator.malloc(1024) == addresses[6]
    assert simulator.malloc(512) == addresses[2] + 1536  # the rest of a split block, the smallest free one
    check(simulator)


@pytest.mark.parametrize(
    ("choice", "taken"),
    # of the older segment the third and the last of five blocks, of the newer one, which lies lower, the first. What is
    # left of a segment when all others are split off is the oldest block
    [
        (Choice.LOWEST, ["newer 0", "older 2", "older 4"]),
        (Choice.OLDEST_SEGMENT, ["older 2", "older 4", "newer 0"]),
        (Choice.OLDEST_BLOCK, ["older 4", "older 2", "newer 0"]),
    ],
)
def test_every_torch_chooses_among_equals_in_its_own_way(choice: Choice, taken: list[str]) -> None:
    simulator = Simulator(addresses=Falling(), choice=choice)
    names = {simulator.malloc(4 * MIB): f"{segment} {place}" for segment in ("older", "newer") for place in range(5)}
    assert simulator.totals.reserved == 2 * 20 * MIB
    for address, name in names.items():
        if name in taken:
            simulator.free(address)
    assert [names[simulator.malloc(4 * MIB)] for _ in taken] == taken
    check(simulator)


def test_a_block_that_joined_another_is_as_old_as_the_one_freed_last() -> None:
    """``try_merge_blocks`` lets the block that is being freed live on."""
    simulator = Simulator(choice=Choice.OLDEST_BLOCK)
    blocks = [simulator.malloc(4 * MIB) for _ in range(5)]  # the second to fifth oldest, and what is left: the oldest
    for index in (0, 1, 3, 4):
        simulator.free(blocks[index])
    assert simulator.malloc(8 * MIB) == blocks[3]
    check(simulator)


def test_a_freed_block_joins_both_neighbours() -> None:
    simulator = Simulator()
    first, middle, last, guard = (simulator.malloc(512) for _ in range(4))
    simulator.free(first)
    simulator.free(last)
    simulator.free(middle)
    assert simulator.malloc(1536) == first  # 3 x 512 again in one piece
    assert guard - first == 1536
    check(simulator)


def test_blocks_are_not_reused_on_another_stream() -> None:
    simulator = Simulator()
    simulator.free(simulator.malloc(512, stream=1))
    assert simulator.malloc(512, stream=2) - BASE == 2 * MIB  # a segment of its own
    assert simulator.totals.reserved == 4 * MIB


def test_the_large_pool_keeps_a_rest_of_up_to_1_mib() -> None:
    simulator = Simulator()
    simulator.malloc(11 * MIB)  # a segment of 12 MiB (steps of 2 MiB); the rest of 1 MiB is not split off
    assert simulator.totals.allocated == 12 * MIB
    simulator.malloc(11 * MIB - 512)  # again 12 MiB; a rest of 1 MiB + 512 is
    assert simulator.totals.allocated == 12 * MIB + 11 * MIB - 512


def test_large_requests_below_10_mib_split_a_segment_of_20_mib() -> None:
    simulator = Simulator()
    assert [simulator.malloc(6 * MIB) - BASE for _ in range(4)] == [0, 6 * MIB, 12 * MIB, 20 * MIB]
    assert simulator.totals.reserved == 40 * MIB  # three in the first; its rest of 2 MiB is too small for the fourth


def test_an_oversize_block_is_not_given_to_a_small_request() -> None:
    simulator = Simulator(parse_settings("max_split_size_mb:32"))
    simulator.free(simulator.malloc(40 * MIB))
    assert simulator.malloc(8 * MIB) - BASE == 40 * MIB  # a new segment of 20 MiB: 40 MiB is at or above the limit
    assert simulator.malloc(36 * MIB) == BASE  # 40 < 36 + 20: taken, and handed out whole
    assert simulator.totals.allocated == 48 * MIB
    check(simulator)


def test_an_oversize_request_refuses_a_block_that_is_20_mib_larger() -> None:
    simulator = Simulator(parse_settings("max_split_size_mb:32"))
    simulator.free(simulator.malloc(60 * MIB))
    assert simulator.malloc(40 * MIB) - BASE == 60 * MIB


def test_one_oversize_block_is_released_before_everything_else() -> None:
    # 100 MiB in all: 40 and 38 cached, 12 needed by a request that neither may serve (36 + 20 > 40, but 8 < 32)
    simulator = Simulator(parse_settings("max_split_size_mb:32"), capacity_bytes=100 * MIB)
    large, larger, small = simulator.malloc(38 * MIB), simulator.malloc(40 * MIB), simulator.malloc(2 * MIB)
    for address in (large, larger):
        simulator.free(address)
    assert simulator.totals.reserved == 98 * MIB  # with 20 MiB for the small one
    simulator.malloc(19 * MIB)  # 20 MiB do not fit; the smallest oversize block, 38 MiB, is released for them
    assert simulator.totals.reserved == 98 * MIB - 38 * MIB + 20 * MIB
    assert simulator.totals.retries == 0
    assert small in simulator.in_use
    check(simulator)


def test_several_oversize_blocks_are_released_largest_first_until_enough() -> None:
    simulator = Simulator(parse_settings("max_split_size_mb:32"), capacity_bytes=120 * MIB)
    cached = [simulator.malloc(size * MIB) for size in (34, 36, 38)]
    for address in cached:
        simulator.free(address)
    # 60 MiB: no single block is as large, 38 and 36 together are enough; 34 stays
    simulator.malloc(60 * MIB)
    assert simulator.totals.reserved == (34 + 60) * MIB
    assert simulator.totals.retries == 0


@pytest.mark.parametrize("wanted", [50, 95])
def test_a_part_of_a_segment_is_never_released_as_oversize(wanted: int) -> None:
    simulator = Simulator(capacity_bytes=110 * MIB)
    simulator.free(simulator.malloc(90 * MIB))
    simulator.malloc(10 * MIB)
    simulator.settings = parse_settings("max_split_size_mb:20")  # a program can set it while it runs
    # the free 80 MiB of the segment of 90 are oversize now: 50 may not take them (80 >= 50 + 20), 95 exceed them; a new
    # segment would make 140 or 186 of 110, and part of a segment cannot be returned
    with pytest.raises(SimulatedOutOfMemory):
        simulator.malloc(wanted * MIB)
    assert simulator.totals.reserved == 90 * MIB
    check(simulator)


def test_a_retry_releases_whole_free_segments_only() -> None:
    simulator = Simulator(capacity_bytes=40 * MIB)
    kept, gone = simulator.malloc(2 * MIB), simulator.malloc(20 * MIB)  # 20 MiB each; the first keeps 18 MiB free
    simulator.free(gone)
    simulator.malloc(20 * MIB - 512)  # reuses the second: 20 MiB fit 20 MiB - 512
    assert simulator.totals.retries == 0
    simulator.free(gone)
    simulator.malloc(512)  # 2 MiB more than there is: the free 20 MiB are returned, the split segment stays
    assert simulator.totals.retries == 1
    assert simulator.totals.reserved == 22 * MIB
    assert kept in simulator.in_use
    check(simulator)


def test_out_of_memory_tells_the_totals_and_leaves_the_allocator_whole() -> None:
    simulator = Simulator(capacity_bytes=30 * MIB)
    simulator.malloc(2 * MIB)
    with pytest.raises(SimulatedOutOfMemory) as caught:
        simulator.malloc(19 * MIB)
    assert (caught.value.requested, caught.value.allocated, caught.value.reserved) == (19 * MIB, 2 * MIB, 20 * MIB)
    check(simulator)


def test_garbage_collection_releases_blocks_older_than_the_average() -> None:
    # threshold 0.5 of 200 MiB; three cached segments of 30 MiB, the first freed longest ago
    simulator = Simulator(parse_settings("garbage_collection_threshold:0.5"), allowed_bytes=200 * MIB)
    blocks = [simulator.malloc(30 * MIB) for _ in range(4)]  # 120 MiB reserved
    simulator.free(blocks[0])
    simulator.free(simulator.malloc(2 * MIB))  # search 5 takes the first block, which is split and then whole again
    for address in blocks[1:3]:
        simulator.free(address)
    # reserved 120 > 100: 20 MiB are to go. Ages at this search: block 0 was reinserted by the free above, like 1 and 2,
    # with the count 5; now the count is 6, so all are 1 = the average, and all three go
    simulator.malloc(40 * MIB)
    assert simulator.totals.reserved == 30 * MIB + 40 * MIB
    check(simulator)


def test_garbage_collection_spares_the_young() -> None:
    simulator = Simulator(parse_settings("garbage_collection_threshold:0.4"), allowed_bytes=200 * MIB)
    old, young = simulator.malloc(30 * MIB), simulator.malloc(34 * MIB)  # searches 1 and 2
    simulator.free(old)  # inserted at 2
    busy = simulator.malloc(36 * MIB)  # search 3; 64 <= 80: nothing to collect
    simulator.free(young)  # inserted at 3
    # search 4: ages 2 and 1, average 1.5. Reserved 100, threshold 80: 20 to go, the old 30 MiB suffice
    simulator.malloc(40 * MIB)
    assert simulator.totals.reserved == (34 + 36 + 40) * MIB
    assert busy in simulator.in_use
    check(simulator)


def test_empty_cache_returns_whole_segments() -> None:
    simulator = Simulator()
    simulator.free(simulator.malloc(12 * MIB))
    kept = simulator.malloc(512)
    simulator.empty_cache()
    assert simulator.totals.reserved == 2 * MIB
    simulator.free(kept)
    simulator.empty_cache()
    assert simulator.totals.reserved == 0
    assert simulator.segments == {}
    check(simulator)


def test_a_block_used_on_another_stream_waits_for_it() -> None:
    simulator = Simulator()
    address = simulator.malloc(512, stream=1)
    simulator.record_stream(address, 2)
    simulator.free(address)
    assert (simulator.totals.allocated, simulator.totals.active) == (0, 512)
    assert simulator.malloc(512, stream=1) == address + 512  # not reusable yet
    simulator.finish_pending(address)
    assert simulator.totals.active == 512
    assert simulator.malloc(512, stream=1) == address
    check(simulator)


def test_use_on_its_own_stream_needs_no_waiting() -> None:
    simulator = Simulator()
    address = simulator.malloc(512, stream=1)
    simulator.record_stream(address, 1)
    simulator.free(address)
    assert simulator.totals.active == 0


def test_empty_cache_waits_for_all_streams() -> None:
    simulator = Simulator()
    address = simulator.malloc(512)
    simulator.record_stream(address, 2)
    simulator.free(address)
    simulator.empty_cache()
    assert simulator.totals.reserved == 0


def test_a_private_pool_shares_nothing_and_is_kept_until_released() -> None:
    simulator = Simulator()
    simulator.free(simulator.malloc(512))
    private = simulator.malloc(512, pool_id=(0, 1))
    assert private - BASE == 2 * MIB  # the cached block of the default pool is not for it
    assert simulator.malloc(512) == BASE
    simulator.free(private)
    simulator.empty_cache()
    assert simulator.totals.reserved == 4 * MIB
    simulator.release_pool((0, 1))
    simulator.empty_cache()
    assert simulator.totals.reserved == 2 * MIB
    check(simulator)


def test_emptying_a_private_pool_waits_for_its_own_blocks_alone() -> None:
    simulator = Simulator()
    for size, pool_id in ((12 * MIB, (0, 1)), (14 * MIB, (0, 2)), (16 * MIB, (0, 0))):
        address = simulator.malloc(size, pool_id=pool_id)
        simulator.record_stream(address, 2)
        simulator.free(address)
    simulator.release_pool((0, 1))
    simulator.release_pool((0, 2))
    simulator.empty_cache((0, 1))
    assert simulator.totals.reserved == simulator.totals.active == 30 * MIB  # all but the 12
    check(simulator)


class TestExpandableSegments:
    def test_a_segment_grows_page_by_page(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        addresses = [simulator.malloc(size * MIB) - BASE for size in (15, 15, 15)]
        # one range: 15 + 15 + 15 MiB lie end to end on 20 + 20 + 20 MiB of pages (15 -> 20, 30 -> 40, 45 -> 60)
        assert addresses == [0, 15 * MIB, 30 * MIB]
        assert simulator.totals.reserved == 60 * MIB
        assert simulator.totals.allocated == 45 * MIB
        check(simulator)

    def test_small_blocks_have_a_range_of_their_own_with_pages_of_2_mib(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        simulator.malloc(15 * MIB)
        assert simulator.malloc(512) - BASE == RESERVATION
        assert simulator.totals.reserved == 22 * MIB

    def test_only_whole_pages_go_back(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        first, second, third = (simulator.malloc(15 * MIB) for _ in range(3))
        simulator.free(second)  # free from 15 to 30 MiB: no page of 20 MiB lies inside
        simulator.empty_cache()
        assert simulator.totals.reserved == 60 * MIB
        simulator.free(third)  # free from 15 to 60 MiB: pages 20-40 and 40-60 do
        simulator.empty_cache()
        assert simulator.totals.reserved == 20 * MIB
        assert first in simulator.in_use
        check(simulator)
        assert simulator.malloc(8 * MIB) - BASE == 15 * MIB  # the free 5 MiB before the gap are joined with a new page
        assert simulator.totals.reserved == 40 * MIB
        check(simulator)

    def test_both_ends_of_a_free_block_stay_where_pages_inside_it_go_back(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        _, middle, _ = (simulator.malloc(size * MIB) for size in (5, 50, 5))
        simulator.free(middle)  # free from 5 to 55 MiB: of the pages of 20 MiB that from 20 to 40 lies inside
        simulator.empty_cache()
        assert simulator.totals.reserved == 40 * MIB
        check(simulator)
        # of the two ends of 15 MiB the lower one can grow, and is left for last
        assert [simulator.malloc(size * MIB) - BASE for size in (14, 15)] == [40 * MIB, 5 * MIB]
        assert simulator.totals.reserved == 40 * MIB
        check(simulator)

    def test_an_empty_range_is_given_up(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        simulator.free(simulator.malloc(15 * MIB))
        simulator.empty_cache()
        assert simulator.segments == {}
        check(simulator)

    def test_a_block_that_can_grow_is_left_for_last(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        low, guard, high = simulator.malloc(18 * MIB), simulator.malloc(2 * MIB), simulator.malloc(8 * MIB)
        # 28 MiB on 40 MiB of pages: free are 18 MiB at 0 (after the free) and 12 MiB at the end, which can still grow
        simulator.free(low)
        assert simulator.malloc(10 * MIB) == low  # best fit alone would take the 12 MiB
        assert {guard, high} <= simulator.in_use.keys()
        check(simulator)

    def test_switched_off_again_their_blocks_are_passed_over(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"))
        low, _, rest = simulator.malloc(4 * MIB), simulator.malloc(4 * MIB), simulator.malloc(12 * MIB)
        simulator.free(low)  # 4 and 12 MiB of the one page of 20 MiB are free
        simulator.free(rest)
        simulator.settings = parse_settings("")
        # more than either: segments of their own
        first, second = simulator.malloc(14 * MIB), simulator.malloc(16 * MIB)
        simulator.free(first)
        simulator.free(second)
        assert simulator.malloc(4 * MIB) == first  # best fit among all free blocks would be the one at `low`
        assert simulator.malloc(4 * MIB) == first + 4 * MIB
        assert simulator.totals.reserved == 50 * MIB  # 20 + 14 + 16
        check(simulator)

    def test_when_memory_runs_out_other_ranges_are_trimmed(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"), capacity_bytes=40 * MIB)
        simulator.free(simulator.malloc(30 * MIB, stream=1))
        simulator.malloc(30 * MIB, stream=2)
        assert simulator.totals.reserved == 40 * MIB
        assert simulator.totals.retries == 1
        check(simulator)

    def test_pages_got_before_memory_ran_out_stay(self) -> None:
        simulator = Simulator(parse_settings("expandable_segments:True"), capacity_bytes=50 * MIB)
        keep = simulator.malloc(15 * MIB)
        with pytest.raises(SimulatedOutOfMemory):
            simulator.malloc(40 * MIB)  # 35 MiB beyond the free 5: 40 MiB of pages where 30 are left
        assert simulator.totals.reserved == 20 * MIB
        assert keep in simulator.in_use
        check(simulator)


def test_a_contradiction_is_found() -> None:
    simulator = Simulator()
    block = simulator.in_use[simulator.malloc(512)]
    block.size += 512
    with pytest.raises(InvariantError):
        check(simulator)
