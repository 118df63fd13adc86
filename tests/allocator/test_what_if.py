from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from snapshot_builder import EMPTY_CACHE, LINE, MIB, Program, demanded, load, recorded, run_with, training_step
from test_properties import SETTINGS, STEPS, perform, relaxed

from vramscope.allocator.demand import Demand, demand_of
from vramscope.allocator.replay import replay
from vramscope.allocator.report import build_report
from vramscope.allocator.simulator import SimulatedOutOfMemory
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.allocator.what_if import run_as_recorded
from vramscope.errors import UsageError


def fragmented() -> Program:
    """Three blocks of 15 MiB, of which the middle one is freed, then one of 18 MiB."""
    program = Program()
    _, middle, _ = (program.malloc(15 * MIB) for _ in range(3))
    program.free(middle)
    program.malloc(18 * MIB)
    return program


def test_other_settings_reserve_other_amounts(tmp_path: Path) -> None:
    snapshot = load(fragmented().snapshot(), tmp_path)
    demand = demand_of(snapshot, replay(snapshot, 0))
    # three segments of 16 MiB (15 rounded to 2 MiB steps), of which the free one is too small for 18: 48 + 18
    assert run_with(demand, "").peak_reserved == 66 * MIB
    # one range: 15 + 15 + 15 on 60 MiB of pages; 18 fit neither the hole of 15 nor the last 15 alone: 45 + 18 = 63 ->
    # 80
    assert run_with(demand, "expandable_segments:True").peak_reserved == 80 * MIB
    # pages of 12 MiB: 45 -> 48, 63 -> 72
    fine = run_with(demand, "expandable_segments:True,large_segment_size_mb:12")
    assert fine.peak_reserved == 72 * MIB


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    program = fragmented()
    snapshot = load(program.snapshot(), tmp_path)
    outcome = run_with(demand_of(snapshot, replay(snapshot, 0)), "", limit_bytes=40 * MIB)
    # 16 + 16 MiB fit, the third segment would make 48; entries: segment_alloc, alloc, segment_alloc, alloc,
    # segment_alloc, alloc
    assert not outcome.fits
    assert (outcome.failed_entry, outcome.failed_bytes) == (5, 15 * MIB)


def test_a_retry_can_make_room(tmp_path: Path) -> None:
    snapshot = load(fragmented().snapshot(), tmp_path)
    outcome = run_with(demand_of(snapshot, replay(snapshot, 0)), "", limit_bytes=50 * MIB)
    # 48 MiB, and 18 more only once the free segment of 16 is returned: 32 + 18 = 50
    assert outcome.fits
    assert (outcome.retries, outcome.peak_reserved) == (1, 50 * MIB)


def test_a_start_that_is_too_large_fails_before_the_first_entry(tmp_path: Path) -> None:
    program = fragmented()
    skip = len(program.trace)
    program.malloc(512)
    snapshot = load(program.snapshot(skip), tmp_path)
    demand = demand_of(snapshot, replay(snapshot, 0))
    assert run_with(demand, "", 40 * MIB).failed_entry == -1
    assert run_as_recorded(demand, 40 * MIB).failed_entry == -1
    # the cached 16 MiB of the start would have been returned on a GPU of 52: 16 + 16 + 18 + 2
    assert run_as_recorded(demand, 52 * MIB).fits
    assert not run_as_recorded(demand, 52 * MIB - 1).fits


def test_a_release_that_the_program_asked_for_is_done_again(tmp_path: Path) -> None:
    program = Program()
    program.free(program.malloc(30 * MIB, frames=LINE))
    program.empty_cache(frames=EMPTY_CACHE)
    program.malloc(40 * MIB, frames=LINE)
    assert run_with(demanded(program, tmp_path), "").peak_reserved == 40 * MIB


def partly_released(folder: Path) -> Demand:
    """Of 12 and 38 MiB cached beside 60 in use, only the oversize 38 are released for an allocation of 30."""
    program = Program("max_split_size_mb:32", capacity=130 * MIB)
    small, oversize, _ = program.malloc(12 * MIB), program.malloc(38 * MIB), program.malloc(60 * MIB)
    program.free(small)
    program.free(oversize)
    # 12 MiB are too few and 38 not for a request below 32; 110 + 30 do not fit 130, so the 38 are returned: 72 + 30
    program.malloc(30 * MIB)
    program.malloc(28 * MIB)  # 102 + 28
    return demanded(program, folder)


def test_as_recorded_is_what_the_trace_says_of_a_partial_release(tmp_path: Path) -> None:
    demand = partly_released(tmp_path)
    assert demand.replayed.exact
    recorded = run_as_recorded(demand)
    # with the 12 MiB still cached; without them it would be 118
    assert (recorded.peak_reserved, recorded.end_reserved, recorded.retries) == (130 * MIB, 130 * MIB, 0)
    assert run_as_recorded(demand, 130 * MIB).peak_reserved == 130 * MIB


def test_a_smaller_gpu_releases_by_the_rules(tmp_path: Path) -> None:
    demand = partly_released(tmp_path)
    # 110, then the oversize 38 go as recorded: 72 + 30. For the 28 nothing oversize is left, so a retry returns the 12:
    # 90 + 28 = 118
    smaller = run_as_recorded(demand, 125 * MIB)
    assert (smaller.fits, smaller.peak_reserved, smaller.retries) == (True, 118 * MIB, 1)
    assert run_as_recorded(demand, 118 * MIB).fits
    # 12 + 38 + 60 = 110 do not fit 109 either, but nothing is free yet
    assert run_as_recorded(demand, 109 * MIB).failed_entry == 5
    # no limit, no release: 12 + 38 + 60 + 30 + 28
    assert run_with(demand, "max_split_size_mb:32").peak_reserved == 168 * MIB
    # by default the 30 take the 38 and leave 8, so 28 are new: 110 + 28
    assert run_with(demand, "").peak_reserved == 138 * MIB


def test_as_recorded_is_what_the_trace_says_of_garbage_collection(tmp_path: Path) -> None:
    program = Program("garbage_collection_threshold:0.4", capacity=200 * MIB, allowed=200 * MIB)
    old, young = program.malloc(30 * MIB), program.malloc(34 * MIB)
    program.free(old)
    program.malloc(36 * MIB)
    program.free(young)
    # 100 MiB are reserved, 20 above the threshold: the older 30 go and the younger 34 stay (as in the simulator's test)
    program.malloc(40 * MIB)
    demand = demanded(program, tmp_path)
    assert [(found.asked, found.certain) for found in demand.releases] == [(False, True)]
    assert run_as_recorded(demand).peak_reserved == 110 * MIB
    # the same GPU, everything afresh; without a limit garbage is never collected: 30 + 34 + 36 + 40
    assert run_with(demand, "garbage_collection_threshold:0.4", 200 * MIB).peak_reserved == 110 * MIB
    assert run_with(demand, "garbage_collection_threshold:0.4").peak_reserved == 140 * MIB


@pytest.mark.parametrize(
    ("settings", "asked_and_certain"), [("", (True, True)), ("garbage_collection_threshold:0.5", (False, False))]
)
def test_a_release_that_nothing_needed_is_the_programs_unless_garbage_is_collected(
    tmp_path: Path, settings: str, asked_and_certain: tuple[bool, bool]
) -> None:
    program = Program(settings)
    program.free(program.malloc(60 * MIB))
    program.empty_cache()  # without a stack that would tell
    for size in (30, 100):  # had the 60 stayed, 90 would have been reserved next: less than the 130 at the end
        program.malloc(size * MIB)
    (release,) = demanded(program, tmp_path).releases
    assert (release.asked, release.certain) == asked_and_certain


def out_of_memory(folder: Path, then: int = 0) -> Demand:
    """15 MiB, then 30 that a GPU of 40 has no room for."""
    program = Program(capacity=40 * MIB)
    program.malloc(15 * MIB)
    with pytest.raises(SimulatedOutOfMemory):
        program.malloc(30 * MIB)
    if then:
        program.malloc(then)
    return demanded(program, folder)


def test_a_trace_that_ends_out_of_memory_fits_only_where_that_allocation_does(tmp_path: Path) -> None:
    demand = out_of_memory(tmp_path)
    # segment_alloc, alloc, oom
    assert demand.fatal == 2
    recorded = run_as_recorded(demand, 40 * MIB)
    assert (recorded.fits, recorded.failed_entry, recorded.failed_bytes) == (False, 2, 30 * MIB)
    assert recorded.peak_reserved == 16 * MIB
    assert not run_with(demand, "", 46 * MIB - 1).fits
    assert run_with(demand, "", 46 * MIB).peak_reserved == 46 * MIB  # 15 -> 16, and 30
    assert run_as_recorded(demand, 46 * MIB).peak_reserved == 46 * MIB
    assert run_as_recorded(demand).peak_reserved == 16 * MIB  # what was recorded, and no more


def test_a_failure_that_the_program_survived_is_its_own_affair(tmp_path: Path) -> None:
    demand = out_of_memory(tmp_path, then=14 * MIB)
    assert demand.fatal is None
    assert run_as_recorded(demand, 30 * MIB).fits
    assert run_with(demand, "", 30 * MIB).fits


def test_a_private_pool_goes_when_the_recording_let_it_go(tmp_path: Path) -> None:
    program = Program(names_pools=True)
    program.free(program.malloc(12 * MIB, frames=LINE))
    program.free(program.malloc(14 * MIB, pool=(0, 1), frames=LINE))
    program.simulator.release_pool((0, 1))
    program.empty_cache(frames=EMPTY_CACHE, pool=(0, 1))  # only that pool: the 12 MiB stay
    program.malloc(16 * MIB, frames=LINE)
    demand = demanded(program, tmp_path)
    assert demand.replayed.exact
    assert [(found.asked, found.complete, found.pools) for found in demand.releases] == [(True, False, {(0, 1)})]
    again = run_with(demand, "")
    assert (again.peak_reserved, again.end_reserved) == (28 * MIB, 28 * MIB)


def test_private_pools_stay_apart(tmp_path: Path) -> None:
    program = Program()
    program.free(program.malloc(12 * MIB))
    program.malloc(12 * MIB, pool=(0, 1))
    snapshot = load(program.snapshot(), tmp_path)
    assert run_with(demand_of(snapshot, replay(snapshot, 0)), "").peak_reserved == 24 * MIB


def test_garbage_collection_takes_the_limit_for_the_process_own(tmp_path: Path) -> None:
    program = Program()
    for size in (12, 14, 16, 18):  # each larger than what is cached, so each a new segment
        program.free(program.malloc(size * MIB))
    snapshot = load(program.snapshot(), tmp_path)
    settings = "garbage_collection_threshold:0.5"
    # without a limit it never runs: 12 + 14 + 16 + 18
    assert run_with(demand_of(snapshot, replay(snapshot, 0)), settings).peak_reserved == 60 * MIB
    # 0.5 x 64 = 32: before the 18, 42 are reserved, 10 too many. Ages 3, 2, 1 (searches since freed): the 12 and the 14
    # are as old as the average of 2 and go; 16 + 18 stay
    assert run_with(demand_of(snapshot, replay(snapshot, 0)), settings, 64 * MIB).end_reserved == 34 * MIB


def test_a_sweep_ranks_by_peak_reserved(tmp_path: Path) -> None:
    report = build_report(load(training_step().snapshot(), tmp_path), sweep=True)
    peaks = [run.outcome.peak_reserved for run in report.runs]
    assert len(peaks) == 9  # eight candidates, of which the defaults are what was recorded, and the recorded layout
    assert peaks == sorted(peaks)
    assert [run.asked for run in report.runs].count(True) == 1
    assert report.fits is None


def test_a_limit_is_judged_by_the_settings_asked_for(tmp_path: Path) -> None:
    snapshot = load(fragmented().snapshot(), tmp_path)
    fine = "expandable_segments:True,large_segment_size_mb:12"
    # as recorded a retry returns the free 16 MiB: 50 are enough. Pages of 12 MiB take 72: the hole from 15 to 30 MiB
    # contains no whole one to return
    assert build_report(snapshot, limit_bytes=50 * MIB).fits is True
    assert build_report(snapshot, limit_bytes=50 * MIB - 1).fits is False
    assert build_report(snapshot, asked=(fine,), limit_bytes=72 * MIB - 1).fits is False
    assert build_report(snapshot, asked=(fine,), limit_bytes=72 * MIB).fits is True


def test_bad_settings_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="warp"):
        build_report(load(training_step().snapshot(), tmp_path), asked=("warp:9",))


def test_a_recording_fits_in_its_own_peak_and_expandable_segments_need_less() -> None:
    snapshot = read_snapshot(recorded("graph_breaks"))
    demand = demand_of(snapshot, replay(snapshot, 0))
    assert run_as_recorded(demand, demand.replayed.peak_reserved).fits
    assert not run_as_recorded(demand, demand.replayed.peak_allocated - 512).fits
    assert run_with(demand, "expandable_segments:True").peak_reserved < demand.replayed.peak_reserved


@relaxed
@given(st.sampled_from(SETTINGS), STEPS, st.sampled_from([None, 64 * MIB, 256 * MIB]))
def test_as_recorded_and_on_the_same_gpu_a_program_reserves_what_it_did(
    tmp_path: Path, text: str, steps: list[tuple[object, ...]], limit: int | None
) -> None:
    allowed = limit if "garbage_collection" in text else None
    program = Program(text, capacity=limit, allowed=allowed)
    perform(program, [(*step[:2], False) if step[0] == "free" else step for step in steps], stacks=True)
    demand, totals = demanded(program, tmp_path), program.simulator.totals
    assume(demand.replayed.exact)
    recorded = run_as_recorded(demand)
    assert (recorded.peak_reserved, recorded.end_reserved) == (totals.peak_reserved, totals.reserved)
    assert run_as_recorded(demand, totals.peak_reserved).fits is (demand.fatal is None)
    failed = any(entry["action"] == "oom" for entry in program.trace)
    if not failed:  # a program that survived one released its cache for nothing, which is not repeated
        again = run_with(demand, text, limit)
        assert (again.peak_reserved, again.peak_allocated) == (totals.peak_reserved, totals.peak_allocated)
        assert again.retries == totals.retries
