"""The simulator against second, slow models over random programs.

That of ordinary segments shares no code with it, that of expandable ones only the rules of sizes.
"""

from brute_force import BruteForce
from brute_pages import BrutePages
from hypothesis import given
from hypothesis import strategies as st
from snapshot_builder import MIB
from test_properties import relaxed

from vramscope.allocator.addresses import FIRST_ADDRESS, RESERVATION
from vramscope.allocator.settings import parse_settings
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator

SETTINGS = [
    "",
    "max_split_size_mb:20",
    "max_split_size_mb:24,max_non_split_rounding_mb:21",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[1:2,2:4,4:8,>:16]",
    "large_segment_size_mb:12",
    "garbage_collection_threshold:0.3",
    "garbage_collection_threshold:0.6,max_split_size_mb:20",
    "large_segment_size_mb:32,max_split_size_mb:40,roundup_power2_divisions:[4:1,8:2]",
]
SIZES = st.integers(0, 5000) | st.integers(MIB - 600, MIB + 600) | st.integers(MIB, 12 * MIB) | st.integers(1, 50 * MIB)
STEPS = st.lists(
    st.tuples(st.just("malloc"), SIZES, st.sampled_from([0, 7]))
    | st.tuples(st.just("malloc"), SIZES, st.just(0))
    | st.tuples(st.just("free"), st.integers(0, 1000), st.just(0))
    | st.tuples(st.just("empty_cache"), st.just(0), st.just(0)),
    max_size=50,
)


def follow(fast: Simulator, slow: BruteForce | BrutePages, steps: list[tuple[str, int, int]]) -> None:
    """Do the steps in both, comparing addresses and totals."""
    alive: list[int] = []
    for action, number, stream in steps:
        if action == "malloc":
            try:
                landed: int | None = fast.malloc(number, stream)
            except SimulatedOutOfMemory:
                landed = None
            assert landed == slow.malloc(number, stream)
            alive += [] if landed is None else [landed]
        elif action == "free" and alive:
            address = alive.pop(number % len(alive))
            fast.free(address)
            slow.free(address)
        elif action == "empty_cache":
            fast.empty_cache()
            slow.empty_cache()
        totals = fast.totals
        assert (totals.allocated, totals.reserved, totals.retries) == (slow.allocated, slow.reserved, slow.retries)


@relaxed
@given(st.sampled_from(SETTINGS), STEPS, st.sampled_from([None, 50 * MIB, 90 * MIB, 200 * MIB]), st.booleans())
def test_both_models_place_every_block_alike(
    text: str, steps: list[tuple[str, int, int]], limit: int | None, own_limit: bool
) -> None:
    settings, allowed = parse_settings(text), limit if own_limit else None
    fast, slow = Simulator(settings, limit, allowed), BruteForce(settings, limit, allowed, FIRST_ADDRESS)
    follow(fast, slow, steps)


EXPANDABLE = [
    "expandable_segments:True",
    "expandable_segments:True,large_segment_size_mb:12",
    "expandable_segments:True,roundup_power2_divisions:4",
]


@relaxed
@given(st.sampled_from(EXPANDABLE), STEPS, st.sampled_from([None, 50 * MIB, 90 * MIB]))
def test_both_models_place_every_block_of_expandable_segments_alike(
    text: str, steps: list[tuple[str, int, int]], limit: int | None
) -> None:
    settings = parse_settings(text)
    fast, slow = Simulator(settings, limit), BrutePages(settings, limit, FIRST_ADDRESS, RESERVATION)
    follow(fast, slow, steps)
