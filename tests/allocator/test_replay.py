from pathlib import Path

import numpy as np
import pytest
from snapshot_builder import KIB, MIB, Falling, Program, load, recorded, training_step

from vramscope.allocator.demand import demand_of
from vramscope.allocator.invariants import check
from vramscope.allocator.replay import pass_until, replay
from vramscope.allocator.rules import Choice
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.allocator.start_state import rebuild
from vramscope.allocator.what_if import run_from_recorded_layout

RECORDED = {
    # from the allocator's own counters, ../shared/snapshots/README.md: allocations, peak allocated, peak reserved
    "medium_128_training": (6526, 7_026_606_592, 7_235_174_400),
    "medium_256_training": (6624, 9_113_374_720, 9_265_217_536),
    "medium_256_inference": (1280, 1_795_741_696, 1_864_368_128),
    "graph_breaks": (2162, 3_861_684_736, 4_238_344_192),
    "forward_42gib": (4138, 44_634_833_408, 47_234_154_496),
    "forward_128_segments": (2058, 19_498_420_224, 19_667_091_456),
}


def test_all_22788_allocations_of_the_recordings_land_at_the_recorded_address() -> None:
    replays = [replay(read_snapshot(recorded(name)), 0) for name in RECORDED]
    assert sum(replayed.allocations for replayed in replays) == 22_788
    assert sum(replayed.matched for replayed in replays) == 22_788


@pytest.mark.parametrize("name", RECORDED)
class TestRecordings:
    def test_every_allocation_lands_at_the_recorded_address(self, name: str) -> None:
        allocations, peak_allocated, peak_reserved = RECORDED[name]
        replayed = replay(read_snapshot(recorded(name)), 0)
        assert (replayed.matched, replayed.allocations) == (allocations, allocations)
        assert (replayed.peak_allocated, replayed.peak_reserved) == (peak_allocated, peak_reserved)
        assert replayed.exact

    def test_made_up_segment_addresses_give_the_same_peaks(self, name: str) -> None:
        _, peak_allocated, peak_reserved = RECORDED[name]
        snapshot = read_snapshot(recorded(name))
        outcome = run_from_recorded_layout(demand_of(snapshot, replay(snapshot, 0)))
        assert (outcome.peak_allocated, outcome.peak_reserved) == (peak_allocated, peak_reserved)

    def test_the_state_keeps_its_invariants_from_start_to_end(self, name: str) -> None:
        snapshot = read_snapshot(recorded(name))
        replayed = replay(snapshot, 0)
        for entry in (-1, len(snapshot.traces[0]) // 2, len(snapshot.traces[0]) - 1):
            check(pass_until(snapshot, replayed, entry).simulator)


@pytest.mark.parametrize("choice", Choice)
def test_a_trace_shows_how_its_torch_chose_among_equals(tmp_path: Path, choice: Choice) -> None:
    program = Program(addresses=Falling(), choice=choice)
    for _ in range(3):
        blocks = [program.malloc(4 * MIB) for _ in range(10)]
        for index in (2, 9, 4, 7):
            program.free(blocks[index])
    snapshot = load(program.snapshot(), tmp_path)
    replayed = replay(snapshot, 0)
    assert replayed.exact
    assert replayed.choice is choice
    check(pass_until(snapshot, replayed, len(snapshot.traces[0]) - 1).simulator)


def test_a_block_from_before_keeps_the_size_that_the_file_states(tmp_path: Path) -> None:
    program = Program()
    # 11 MiB in a segment of 12 MiB: the rest of 1 MiB is not split off, the block has 12 MiB
    program.malloc(11 * MIB)
    skip = len(program.trace)
    program.malloc(512)
    start = rebuild(load(program.snapshot(skip), tmp_path), 0)
    assert [(block.size, block.requested) for block in start.blocks] == [(12 * MIB, 11 * MIB)]


def test_the_slack_of_a_block_that_died_shows_by_its_segment(tmp_path: Path) -> None:
    program = Program()
    address = program.malloc(11 * MIB)
    skip = len(program.trace)
    program.free(address)
    start = rebuild(load(program.snapshot(skip), tmp_path), 0)
    # 1 MiB up to the segment's end can be no free block of the large pool, so it is slack
    assert [block.size for block in start.blocks] == [12 * MIB]
    assert start.guessed == frozenset()


def test_unknown_slack_is_learnt_from_the_first_surprise(tmp_path: Path) -> None:
    program = Program()
    first, second, _ = program.malloc(6 * MIB), program.malloc(6 * MIB), program.malloc(6 * MIB)
    program.free(first)
    program.malloc(5 * MIB + 512 * KIB)  # takes the 6 MiB whole: the rest of 512 KiB is its slack
    program.free(second)  # a free block of 6 MiB begins behind it
    victim = next(a for a, b in program.simulator.in_use.items() if b.requested == 5 * MIB + 512 * KIB)
    skip = len(program.trace)
    # without the slack, 512 KiB + 6 MiB would seem free behind the victim and serve this request
    program.malloc(6 * MIB + 256 * KIB)
    program.free(victim)
    replayed = replay(load(program.snapshot(skip), tmp_path), 0)
    assert replayed.exact
    # what is learnt is the least that explains it: 6.5 MiB - x < 6.25 MiB gives x = 256 KiB + 512; the rest stays open
    learnt = 5 * MIB + 512 * KIB + 256 * KIB + 512
    assert [b.size for b in replayed.start.blocks if b.address == victim] == [learnt]
    assert replayed.deduced == 1


def test_a_mismatch_is_counted_and_put_right(tmp_path: Path) -> None:
    program = Program()
    kept = [program.malloc(4096) for _ in range(4)]
    for index in (0, 2):
        program.free(kept[index])
    low = program.malloc(4096)
    raw = program.snapshot()
    # the file claims that the higher of two equal free blocks was taken, against the rules
    raw["device_traces"][0][-1]["addr"] = kept[2]
    blocks = raw["segments"][0]["blocks"]
    for block in blocks:
        if block["address"] == low:
            block["state"], block["requested_size"] = "inactive", 0
        elif block["address"] == kept[2]:
            block["state"], block["requested_size"] = "active_allocated", 4096
    replayed = replay(load(raw, tmp_path), 0)
    assert (replayed.matched, replayed.allocations) == (4, 5)
    assert replayed.first_mismatch == len(program.trace) - 1
    assert replayed.allocated[-1] == 3 * 4096
    assert replayed.marks == ()  # the block was moved to where the file has it


def test_totals_follow_requests_not_completions(tmp_path: Path) -> None:
    program = Program()
    address = program.malloc(512)
    program.simulator.record_stream(address, 9)
    program.free(address)
    program.finish(address)
    replayed = replay(load(program.snapshot(), tmp_path), 0)
    # segment_alloc, alloc, free_requested, free_completed
    assert replayed.allocated.tolist() == [0, 512, 0, 0]
    assert replayed.active.tolist() == [0, 512, 512, 0]
    assert replayed.block_size.tolist() == [0, 512, 512, 0]


def test_a_retry_goes_to_the_driver_whatever_it_made_room_for(tmp_path: Path) -> None:
    program = Program(capacity=64 * MIB)
    waits, _, _ = (program.malloc(6 * MIB) for _ in range(3))
    cached = program.malloc(30 * MIB, stream=7)
    program.simulator.record_stream(waits, 9)
    program.free(waits)
    program.free(cached)
    # 20 + 30 MiB are reserved, and 20 more do not fit: the retry completes the waiting free and returns the 30 MiB. The
    # 6 MiB would now serve the request, but the retry only asks the driver
    program.malloc(5 * MIB)
    actions = [entry["action"] for entry in program.trace]
    assert actions[-4:] == ["free_completed", "segment_free", "segment_alloc", "alloc"]
    assert replay(load(program.snapshot(), tmp_path), 0).exact


def test_pages_left_by_a_failed_allocation_are_replayed(tmp_path: Path) -> None:
    program = Program("expandable_segments:True", capacity=50 * MIB)
    program.malloc(15 * MIB)
    with pytest.raises(Exception, match="no "):
        program.malloc(80 * MIB)
    program.malloc(20 * MIB)
    assert replay(load(program.snapshot(), tmp_path), 0).exact


def test_returned_pages_of_the_small_pool_are_known_by_their_blocks(tmp_path: Path) -> None:
    program = Program("expandable_segments:True")
    blocks = [program.malloc(MIB) for _ in range(20)]
    skip = len(program.trace)
    for address in blocks:
        program.free(address)
    program.empty_cache()
    program.malloc(15 * MIB)
    # ten pages of 2 MiB go back as one piece, as large as a page of the large pool
    assert [(e["action"], e["size"]) for e in program.trace[skip:] if "segment" in e["action"]] == [
        ("segment_unmap", 20 * MIB),
        ("segment_map", 20 * MIB),
    ]
    replayed = replay(load(program.snapshot(skip), tmp_path), 0)
    assert [segment.small for segment in replayed.start.segments] == [True]
    assert replayed.exact


@pytest.mark.parametrize("names_pools", [False, True])
def test_a_private_pool_may_have_ordinary_segments_beside_expandable_ones(tmp_path: Path, names_pools: bool) -> None:
    program = Program("expandable_segments:True", names_pools=names_pools)
    program.simulator.ordinary_pools = frozenset({(0, 1)})
    first, _ = program.malloc(15 * MIB, pool=(0, 1)), program.malloc(15 * MIB)
    program.free(first)
    # the whole 16 MiB, for the rest of 0.5 MiB is split off in expandable segments only
    program.malloc(15 * MIB + 512 * KIB, pool=(0, 1))
    assert program.simulator.totals.allocated == 31 * MIB
    assert [e["action"] for e in program.trace if "segment" in e["action"]] == ["segment_alloc", "segment_map"]
    replayed = replay(load(program.snapshot(), tmp_path), 0)
    assert replayed.exact
    assert replayed.peak_allocated == 31 * MIB


def test_pools_that_are_gone_in_the_end_are_known_by_the_entries(tmp_path: Path) -> None:
    program = Program(names_pools=True)
    program.free(program.malloc(12 * MIB))
    private = program.malloc(12 * MIB, pool=(0, 1))  # not in the 12 MiB cached, which are the default pool's
    program.free(private)
    program.malloc(11 * MIB)
    program.simulator.release_pool((0, 1))
    program.empty_cache()
    raw = program.snapshot()
    assert {segment["segment_pool_id"] for segment in raw["segments"]} == {(0, 0)}
    assert replay(load(raw, tmp_path), 0).exact
    for entry in raw["device_traces"][0]:  # as versions write it that do not tell the pool
        del entry["pool_id"]
    assert not replay(load(raw, tmp_path), 0).exact


@pytest.mark.parametrize(
    ("key", "value"), [("size", 5000), ("addr", 0x7F00_0000_4000), ("stream", 3), ("action", "free_completed")]
)
def test_a_changed_entry_leaves_a_mark(tmp_path: Path, key: str, value: object) -> None:
    raw = training_step().snapshot()
    entry = next(e for e in raw["device_traces"][0] if e["action"] == "alloc" and e["size"] < MIB)
    entry[key] = value
    assert not replay(load(raw, tmp_path), 0).exact


def test_the_replay_of_an_empty_trace_is_empty(tmp_path: Path) -> None:
    program = training_step()
    replayed = replay(load(program.snapshot(skip=len(program.trace)), tmp_path), 0)
    assert (replayed.allocations, replayed.peak_entry) == (0, -1)
    assert replayed.peak_allocated == replayed.start_allocated == program.simulator.totals.allocated
    assert np.array_equal(replayed.allocated, [])
