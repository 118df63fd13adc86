"""Random programs: the simulator keeps its invariants, and a recorded program replays onto its own addresses."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_builder import EMPTY_CACHE, LINE, MIB, Program, load

from vramscope.allocator.invariants import check
from vramscope.allocator.pass_over import Pass
from vramscope.allocator.replay import replay
from vramscope.allocator.settings import parse_settings
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator

SETTINGS = [
    "",
    "expandable_segments:True",
    "expandable_segments:True,large_segment_size_mb:12",
    "expandable_segments:True,max_split_size_mb:20",
    "max_split_size_mb:20",
    "max_split_size_mb:64,max_non_split_rounding_mb:32",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[1:2,4:8,>:4]",
    "large_segment_size_mb:12",
    "garbage_collection_threshold:0.6",
]
SIZES = st.one_of(st.integers(0, 4096), st.integers(1, 2 * MIB), st.integers(MIB, 48 * MIB))
STREAMS = st.sampled_from([0, 0, 0, 5])
POOLS = st.sampled_from([None, None, None, (0, 1)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), SIZES, STREAMS, POOLS),
        st.tuples(st.just("malloc"), SIZES, STREAMS, POOLS),
        st.tuples(st.just("free"), st.integers(0, 1000), st.booleans()),
        st.tuples(st.just("finish"), st.integers(0, 1000)),
        st.tuples(st.just("empty_cache")),
    ),
    max_size=60,
)
relaxed = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def perform(
    program: Program | Simulator,
    steps: list[tuple[object, ...]],
    checked: Simulator | None = None,
    stacks: bool = False,
) -> None:
    """Do the steps; indices choose among the blocks that are alive. ``stacks``: each call has a stack of its own."""
    alive: list[int] = []
    waiting: list[int] = []
    simulator = program.simulator if isinstance(program, Program) else program
    for step in steps:
        waiting = [a for a in waiting if a in simulator.in_use and simulator.in_use[a].pending]
        if step[0] == "malloc":
            try:
                more = {"frames": LINE} if stacks else {}
                alive.append(program.malloc(*step[1:], **more))  # type: ignore[arg-type]
            except SimulatedOutOfMemory:
                continue
        elif step[0] == "free" and alive:
            address = alive.pop(step[1] % len(alive))  # type: ignore[operator]
            if step[2]:
                simulator.record_stream(address, 77)
                waiting.append(address)
            program.free(address)
        elif step[0] == "finish" and waiting:
            address = waiting.pop(step[1] % len(waiting))  # type: ignore[operator]
            program.finish(address) if isinstance(program, Program) else program.finish_pending(address)
        elif step[0] == "empty_cache":
            program.empty_cache(**({"frames": EMPTY_CACHE} if stacks else {}))
        if checked is not None:
            check(checked)


@relaxed
@given(st.sampled_from(SETTINGS), STEPS, st.sampled_from([None, 64 * MIB, 256 * MIB]), st.booleans())
def test_the_simulator_keeps_its_invariants(
    text: str, steps: list[tuple[object, ...]], limit: int | None, own_limit: bool
) -> None:
    simulator = Simulator(parse_settings(text), capacity_bytes=limit, allowed_bytes=limit if own_limit else None)
    perform(simulator, steps, checked=simulator)
    totals = simulator.totals
    assert totals.requested <= totals.active <= totals.reserved
    assert totals.allocated <= totals.active
    assert totals.peak_reserved <= (limit or totals.peak_reserved)


@relaxed
@given(st.sampled_from(SETTINGS), STEPS)
def test_freeing_everything_gives_everything_back(text: str, steps: list[tuple[object, ...]]) -> None:
    simulator = Simulator(parse_settings(text))
    perform(simulator, steps)
    simulator.release_pool((0, 1))
    for block in list(simulator.in_use.values()):
        if block.allocated:
            simulator.free(block.address)
    simulator.empty_cache()
    check(simulator)
    assert (simulator.totals.active, simulator.totals.reserved, simulator.segments) == (0, 0, {})


@relaxed
@given(st.sampled_from(SETTINGS), STEPS)
def test_a_whole_recording_replays_exactly(tmp_path: Path, text: str, steps: list[tuple[object, ...]]) -> None:
    program = Program(text)
    perform(program, steps)
    snapshot = load(program.snapshot(), tmp_path)
    replayed = replay(snapshot, 0)
    assert replayed.exact
    assert replayed.matched == sum(entry["action"] == "alloc" for entry in program.trace)
    assert replayed.peak_allocated == program.simulator.totals.peak_allocated
    assert replayed.peak_reserved == program.simulator.totals.peak_reserved


@relaxed
@given(st.sampled_from(SETTINGS), STEPS, st.integers(0, 200))
def test_a_recording_from_the_middle_keeps_its_totals_or_says_so(
    tmp_path: Path, text: str, steps: list[tuple[object, ...]], cut: int
) -> None:
    program = Program(text)
    perform(program, steps)
    cut = min(cut, len(program.trace))
    snapshot = load(program.snapshot(skip=cut), tmp_path)
    replayed = replay(snapshot, 0)
    run = Pass(snapshot, 0, replayed.start)
    check(run.simulator)
    # a cut within an allocation hides that it went to the driver, and slack that no neighbour shows is taken to be none
    if replayed.exact and not replayed.deduced:
        for entry, allocated, (expected, _) in zip(
            program.trace[cut:], replayed.allocated, program.peaks[cut:], strict=True
        ):
            # the program writes the totals down when a call is over, after it has logged its segments
            assert allocated == expected or entry["action"].startswith("segment")


@pytest.mark.parametrize("text", SETTINGS)
def test_entries_without_the_second_halves_of_frees_replay_too(tmp_path: Path, text: str) -> None:
    program = Program(text)
    for size in (700, 3 * MIB, 9 * MIB, 700, 30 * MIB):
        program.free(program.malloc(size))
    program.malloc(5 * MIB)
    raw = program.snapshot()
    raw["device_traces"][0] = [e for e in raw["device_traces"][0] if e["action"] != "free_completed"]
    assert replay(load(raw, tmp_path), 0).exact
