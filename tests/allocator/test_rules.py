import pytest

from vramscope.allocator import rules
from vramscope.allocator.settings import MIB, AllocatorSettings, parse_settings

DEFAULTS = AllocatorSettings()


@pytest.mark.parametrize(
    ("request_bytes", "block_bytes"),
    [
        (0, 512),  # never less than one unit
        (1, 512),
        (512, 512),
        (513, 1024),  # two units
        (1_000_000, 1_000_448),  # 1,000,000 / 512 = 1953.1: 1954 units
        (MIB, MIB),
    ],
)
def test_a_request_rounds_up_to_512(request_bytes: int, block_bytes: int) -> None:
    assert rules.round_request(request_bytes, DEFAULTS) == block_bytes


@pytest.mark.parametrize(
    ("request_bytes", "block_bytes"),
    [
        (1200, 1536),  # 1200 <= 512 * 4: plain rounding, three units
        (2048, 2048),  # not above 512 * 4 either
        (2049, 2560),  # between 2048 and 4096 in steps of 2048 / 4 = 512: 2560
        (5 * MIB, 5 * MIB),  # 4 MiB / 4 = 1 MiB: already a multiple
        (5 * MIB + 1, 6 * MIB),
        (8 * MIB, 8 * MIB),  # a power of two stays
    ],
)
def test_round_up_divisions_round_to_a_part_of_the_power_of_two_below(request_bytes: int, block_bytes: int) -> None:
    assert rules.round_request(request_bytes, parse_settings("roundup_power2_divisions:4")) == block_bytes


def test_the_list_form_of_divisions_goes_by_the_power_of_two_below_the_request() -> None:
    # up to 2 MiB no rounding, [2, 4) MiB two parts, from 4 MiB eight parts
    settings = parse_settings("roundup_power2_divisions:[1:1,2:2,>:8]")
    assert rules.round_request(MIB + 1, settings) == MIB + 512
    assert rules.round_request(2 * MIB + 1, settings) == 3 * MIB  # steps of 1 MiB
    assert rules.round_request(4 * MIB + 1, settings) == 4 * MIB + MIB // 2  # steps of 4 MiB / 8


def test_the_divisions_of_the_last_interval_hold_for_all_larger_requests() -> None:
    divisions = tuple(range(16))
    assert rules.divisions_for(1, divisions) == 0
    assert rules.divisions_for(2 * MIB, divisions) == 1
    assert rules.divisions_for(2**50, divisions) == 15


@pytest.mark.parametrize(
    ("block_bytes", "segment_bytes"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),  # the largest small block
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),  # from here on its own size, in steps of 2 MiB
        (10 * MIB + 512, 12 * MIB),
    ],
)
def test_the_segment_asked_of_the_driver(block_bytes: int, segment_bytes: int) -> None:
    assert rules.segment_size(block_bytes, DEFAULTS) == segment_bytes


def test_the_large_segment_size_is_a_setting() -> None:
    assert rules.segment_size(2 * MIB, parse_settings("large_segment_size_mb:64")) == 64 * MIB


@pytest.mark.parametrize(
    ("rest", "small", "expandable", "split"),
    [
        (512, True, False, True),
        (0, True, False, False),
        (MIB, False, False, False),  # in the large pool the rest must exceed 1 MiB
        (MIB + 512, False, False, True),
        (512, False, True, True),  # with expandable segments 512 bytes are enough
    ],
)
def test_when_a_block_is_split(rest: int, small: bool, expandable: bool, split: bool) -> None:
    assert rules.should_split(2 * MIB + rest, 2 * MIB, small, expandable, DEFAULTS) is split


def test_a_request_of_the_split_limit_or_more_is_never_split() -> None:
    settings = parse_settings("max_split_size_mb:20")
    assert rules.should_split(40 * MIB, 20 * MIB - 512, False, False, settings)
    assert not rules.should_split(40 * MIB, 20 * MIB, False, False, settings)


def test_which_hits_the_split_limit_refuses() -> None:
    settings = parse_settings("max_split_size_mb:32")  # the largest excess for larger requests stays at 20 MiB
    assert not rules.refuses_hit(32 * MIB - 512, 2 * MIB, settings)
    assert rules.refuses_hit(32 * MIB, 2 * MIB, settings)
    assert not rules.refuses_hit(60 * MIB - 512, 40 * MIB, settings)
    assert rules.refuses_hit(60 * MIB, 40 * MIB, settings)
    assert not rules.refuses_hit(2**40, 512, DEFAULTS)
