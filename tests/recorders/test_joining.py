"""Joining runs: identical runs join fully, differing ones where it is certain, and the rest is said."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Script, record_pass
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.boundaries import align
from vramscope.recorders.joining import boundaries, with_host, with_lines
from vramscope.recorders.samples import HostKind, HostSamples
from vramscope.recording.recording import NO_SCOPE, UNKNOWN, Recording, ScopeKind, Scopes

# -- boundaries -------------------------------------------------------------------------------------------------------


def of_scopes(*rows: tuple[int, ScopeKind, str, int, int]) -> Recording:
    """A recording of nothing but scopes: (parent, kind, name, start, end)."""
    names = tuple(dict.fromkeys(name for _, _, name, _, _ in rows))
    table = [
        (parent, int(kind), names.index(name), start, end, 1, UNKNOWN, 7) for parent, kind, name, start, end in rows
    ]
    return replace(Script().recording(), scopes=Scopes.from_rows(table), strings=names)


def labels_of(*rows: tuple[int, ScopeKind, str, int, int]) -> list[str]:
    return list(boundaries(of_scopes(*rows))[0])


def test_boundaries_come_in_order_with_their_times() -> None:
    script = Script()
    with script.step(3), script.phase("forward"), script.module("a"):
        with script.module("a.b"), script.operator("aten::add"):
            script.alloc(1, 8)
        with script.module("a.c"):
            pass
    labels, times = boundaries(script.recording())
    # each beginning, end and event takes one tick; the operator's two and the event's one lie within a.b
    assert list(zip(labels, times.tolist(), strict=True)) == [
        ("step+ 3", 1),
        ("phase+ forward", 2),
        ("module+ a", 3),
        ("module+ a.b", 4),
        ("module- a.b", 8),
        ("module+ a.c", 9),
        ("module- a.c", 10),
        ("module- a", 11),
        ("phase- forward", 12),
        ("step- 3", 13),
    ]


def test_without_scopes_there_are_no_boundaries() -> None:
    labels, times = boundaries(Script().recording())
    assert labels == ()
    assert times.dtype == np.int64
    assert len(times) == 0


STEP, PHASE, MODULE = ScopeKind.STEP, ScopeKind.PHASE, ScopeKind.MODULE


def test_at_equal_times_outer_begins_first_and_ends_last() -> None:
    nested = [(NO_SCOPE, MODULE, "m", 1, 9), (0, MODULE, "n", 1, 9)]
    around = [(NO_SCOPE, STEP, "step", 1, 9), (2, PHASE, "p", 1, 9)]
    expected = ["step+ 7", "phase+ p", "module+ m", "module+ n", "module- n", "module- m", "phase- p", "step- 7"]
    assert labels_of(*nested, *around) == expected


def test_at_equal_times_one_ends_before_the_next_begins() -> None:
    assert labels_of((NO_SCOPE, MODULE, "a", 1, 5), (NO_SCOPE, MODULE, "b", 5, 9)) == [
        "module+ a",
        "module- a",
        "module+ b",
        "module- b",
    ]


def test_without_length_a_scope_begins_before_it_ends() -> None:
    side_by_side = [(NO_SCOPE, MODULE, "a", 5, 5), (NO_SCOPE, MODULE, "b", 5, 5), (NO_SCOPE, MODULE, "c", 5, 9)]
    letters = [f"module{sign} {name}" for name in "abc" for sign in "+-"]
    assert labels_of(*side_by_side) == letters


def test_without_length_a_scope_at_its_parents_end_is_inside() -> None:
    inside = ["module+ a", "module+ b", "module- b", "module- a"]
    assert labels_of((NO_SCOPE, MODULE, "a", 1, 5), (0, MODULE, "b", 5, 5)) == inside
    through_operator = [(0, ScopeKind.OPERATOR, "op", 5, 5), (1, MODULE, "b", 5, 5)]
    assert labels_of((NO_SCOPE, MODULE, "a", 1, 5), *through_operator) == inside
    in_phase = ["phase+ p", "module+ b", "module- b", "phase- p"]
    assert labels_of((NO_SCOPE, MODULE, "b", 5, 5), (NO_SCOPE, PHASE, "p", 1, 5)) == in_phase


def test_scopes_that_cross_go_by_the_clock() -> None:
    assert labels_of((NO_SCOPE, MODULE, "a", 1, 5), (NO_SCOPE, MODULE, "b", 3, 9)) == [
        "module+ a",
        "module+ b",
        "module- a",
        "module- b",
    ]


@dataclass(frozen=True)
class Tree:
    """A module with what runs inside it."""

    name: str
    inner: tuple["Tree", ...]

    def labels(self) -> Iterator[str]:
        yield f"module+ {self.name}"
        for tree in self.inner:
            yield from tree.labels()
        yield f"module- {self.name}"

    def write(self, script: Script) -> None:
        with script.module(self.name):
            for tree in self.inner:
                tree.write(script)


forests = st.recursive(
    st.just(()),
    lambda inner: st.lists(st.builds(Tree, st.sampled_from("abc"), inner), max_size=4).map(tuple),
    max_leaves=20,
)


@given(forests, st.integers(1, 8))
def test_nested_modules_keep_their_order_on_a_coarse_clock(forest: tuple[Tree, ...], tick: int) -> None:
    script = Script()
    for tree in forest:
        tree.write(script)
    recording = script.recording()
    scopes = recording.scopes
    coarse = replace(scopes, start_ns=scopes.start_ns // tick, end_ns=scopes.end_ns // tick)
    labels, times = boundaries(replace(recording, scopes=coarse))
    assert list(labels) == [label for tree in forest for label in tree.labels()]
    assert (np.diff(times) >= 0).all()


# -- alignment --------------------------------------------------------------------------------------------------------

label_lists = st.lists(st.sampled_from(["step+ 0", "step+ 1", "module+ a", "module- a", "module+ b"]), max_size=12)


@given(label_lists, label_lists)
def test_what_is_aligned_is_alike_and_in_order(ours: list[str], theirs: list[str]) -> None:
    own, other = align(ours, theirs)
    assert [ours[place] for place in own] == [theirs[place] for place in other]
    assert (np.diff(own) > 0).all()
    assert (np.diff(other) > 0).all()


@given(label_lists, st.data())
def test_all_but_a_step_without_repeats_survives_a_missing_boundary(labels: list[str], data: st.DataObject) -> None:
    labels = [f"{label}{place}" for place, label in enumerate(labels)]
    labels = [*labels, "module+ last"]
    missing = data.draw(st.integers(0, len(labels) - 1))
    shorter = labels[:missing] + labels[missing + 1 :]
    own, other = align(labels, shorter)
    in_other_steps = labels[missing].startswith("step+")  # then what follows belongs to another step
    if not in_other_steps:
        assert own.tolist() == [place for place in range(len(labels)) if place != missing]
        assert other.tolist() == list(range(len(shorter)))


def test_a_difference_stays_within_its_step() -> None:
    step = ["module+ a", "module- a"]
    ours = ["step+ 0", *step, *step, "step+ 1", *step]
    theirs = ["step+ 0", *step, "step+ 1", *step]
    own, other = align(ours, theirs)
    assert own.tolist() == [0, 1, 2, 5, 6, 7]
    assert other.tolist() == [0, 1, 2, 3, 4, 5]


# -- host memory ------------------------------------------------------------------------------------------------------


def two_modules(*paths: str) -> Recording:
    script = Script()
    script.alloc(1, 10)
    with script.step(0):
        for path in paths:
            with script.module(path):
                pass
    return script.recording()


def host_samples(
    recording: Recording, peaks: Sequence[int], kind: HostKind = HostKind.RSS, before: int = 5
) -> HostSamples:
    return HostSamples(kind, before, boundaries(recording)[0], np.array(peaks, dtype=np.int64), "by hand")


def counter(recording: Recording, name: str) -> list[tuple[int, int]]:
    chosen = recording.counters.take(recording.counters.name == recording.strings.index(name))
    return list(zip(chosen.time_ns.tolist(), chosen.value.tolist(), strict=True))


def test_host_memory_stands_at_the_boundaries() -> None:
    recording = two_modules("a", "b")
    rss, heap = ([value + place for place in range(6)] for value in (100, 30))
    joined = with_host(
        recording, host_samples(recording, rss), host_samples(recording, heap, HostKind.PYTHON_HEAP, before=3)
    )
    times = boundaries(recording)[1].tolist()
    assert counter(joined, "rss_before") == [(1, 5)]  # the allocation comes first
    assert counter(joined, "rss_peak") == list(zip(times, rss, strict=True))
    assert counter(joined, "python_heap_peak") == [(time, value - 3) for time, value in zip(times, heap, strict=True)]
    assert joined.notes == ()
    assert joined.environment["host"]["methods"] == {"rss": "by hand", "python_heap": "by hand"}
    assert joined.strings[: len(recording.strings)] == recording.strings
    assert joined.events is recording.events


def test_without_samples_nothing_is_added() -> None:
    recording = two_modules("a")
    assert with_host(recording, None, None) is recording


def test_a_boundary_that_only_the_other_run_passed_is_said_and_its_peak_kept() -> None:
    ours, theirs = two_modules("a"), two_modules("a", "x")
    # theirs: step+ a+ a- x+ x- step-; what x took falls into the stretch from a- to step-
    joined = with_host(ours, host_samples(theirs, [1, 2, 3, 4, 99, 6]), None)
    assert [value for _, value in counter(joined, "rss_peak")] == [1, 2, 3, 99]
    assert len(joined.notes) == 1
    assert "0 boundaries" in joined.notes[0]
    assert "2 only there" in joined.notes[0]


def test_a_boundary_that_only_the_main_run_passed_is_said() -> None:
    ours, theirs = two_modules("a", "x"), two_modules("a")
    joined = with_host(ours, host_samples(theirs, [1, 2, 3, 4]), None)
    times = boundaries(ours)[1]
    assert counter(joined, "rss_peak") == list(zip(times[[0, 1, 2, 5]].tolist(), [1, 2, 3, 4], strict=True))
    assert "2 boundaries" in joined.notes[0]
    assert joined.environment["host"]["notes"] == list(joined.notes)


def test_runs_with_nothing_in_common_join_nothing() -> None:
    joined = with_host(two_modules("a"), host_samples(two_modules(), [1, 2]), None)
    assert [value for _, value in counter(joined, "rss_peak")] == [1, 2]  # the step itself
    empty = HostSamples(HostKind.RSS, 5, (), np.array([], dtype=np.int64), "by hand")
    joined = with_host(two_modules("a"), empty, None)
    assert "rss_peak" not in joined.strings
    assert "4 boundaries" in joined.notes[0]


# -- lines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Allocation:
    """An allocation of a made-up program: which step, module and operator, how many bytes, and on which line."""

    step: int
    module: str
    operator: str
    size: int
    line: int


class LinedScript(Script):
    """A script that knows which line is running."""

    @contextmanager
    def line(self, line: int) -> Iterator[None]:
        self._begin(self._open, ScopeKind.PYTHON_FRAME, "model.py|forward", UNKNOWN, 1, line)
        yield
        self._end(self._open)


def run(program: Sequence[Allocation], *, lines: bool = False) -> Recording:
    """A recording of the program, with its lines or without."""
    script = LinedScript()
    for index in range(2):
        with script.step(index), script.phase("forward"):
            for number, made in enumerate(program):
                if made.step == index:
                    with ExitStack() as scopes:
                        scopes.enter_context(script.module(made.module))
                        scopes.enter_context(script.operator(made.operator))
                        if lines:
                            scopes.enter_context(script.line(made.line))
                        script.alloc(number + 1, made.size)
    return script.recording()


def lines_of(recording: Recording) -> list[int]:
    """The line of each event, 0 for none."""
    scopes = recording.scopes
    innermost = recording.events.scope
    return np.where(scopes.kind[innermost] == ScopeKind.PYTHON_FRAME, scopes.value[innermost], 0).tolist()


def in_order(program: Sequence[Allocation]) -> list[Allocation]:
    return sorted(program, key=lambda made: made.step)


allocations = st.builds(
    Allocation,
    step=st.integers(0, 1),
    module=st.sampled_from("ab"),
    operator=st.sampled_from(["aten::add", "aten::mm"]),
    size=st.sampled_from([8, 64]),
    line=st.integers(1, 3),
)
programs = st.lists(allocations, min_size=1, max_size=12).map(in_order)


@given(programs)
def test_identical_runs_join_fully(program: list[Allocation]) -> None:
    main = run(program)
    joined = with_lines(main, run(program, lines=True))
    assert lines_of(joined) == [made.line for made in program]
    assert joined.notes == ()
    assert_unchanged_but_for_frames(main, joined)


def assert_unchanged_but_for_frames(main: Recording, joined: Recording) -> None:
    """Events are the same and still lie in the scopes in which they lay, frames left out."""
    count = len(main.scopes)
    assert joined.scopes.take(slice(0, count)).start_ns.tolist() == main.scopes.start_ns.tolist()
    owner = joined.events.scope
    outside = np.where(owner >= count, joined.scopes.parent[owner], owner)
    np.testing.assert_array_equal(outside, main.events.scope)
    np.testing.assert_array_equal(joined.events.size, main.events.size)
    np.testing.assert_array_equal(joined.events.total, main.events.total)
    assert (joined.scopes.kind[count:] == ScopeKind.PYTHON_FRAME).all()
    assert Ledger(joined).max_disagreement_bytes() == 0


@given(programs, st.data())
def test_a_missing_allocation_is_said_and_no_line_is_wrong(program: list[Allocation], data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, len(program) - 1))
    remaining = program[:missing] + program[missing + 1 :]
    joined = with_lines(run(program), run(remaining, lines=True))
    check_lines(lines_of(joined), program, remaining)
    assert len(joined.notes) == 1
    if remaining:
        assert f"1 allocations ({program[missing].size} bytes) of this recording have no partner" in joined.notes[0]


@given(programs, allocations)
def test_an_extra_allocation_is_said_and_no_line_is_wrong(program: list[Allocation], extra: Allocation) -> None:
    longer = in_order([*program, extra])
    joined = with_lines(run(program), run(longer, lines=True))
    check_lines(lines_of(joined), program, longer)
    assert len(joined.notes) == 1
    assert f"1 allocations ({extra.size} bytes) of that run have no partner here" in joined.notes[0]


def check_lines(found: list[int], program: list[Allocation], other: list[Allocation]) -> None:
    """Every line that was given is right, and those that no difference touches were given."""
    for line, made in zip(found, program, strict=True):
        alike, others = ([replace(one, line=0) for one in p].count(replace(made, line=0)) for p in (program, other))
        assert line in ((made.line,) if alike == others else (made.line, 0))


def test_another_size_is_no_partner() -> None:
    made = Allocation(0, "a", "aten::mm", 8, line=3)
    joined = with_lines(run([made]), run([replace(made, size=16)], lines=True))
    assert lines_of(joined) == [0]
    assert "1 allocations (8 bytes) of this recording" in joined.notes[0]
    assert "1 allocations (16 bytes) of that run" in joined.notes[0]


def test_allocations_that_could_be_of_several_lines_get_none_and_are_said() -> None:
    first, second = (Allocation(0, "a", "aten::mm", 8, line) for line in (3, 4))
    joined = with_lines(run([first]), run([first, second], lines=True))
    assert lines_of(joined) == [0]
    assert "1 allocations (8 bytes) could be one of several lines" in joined.notes[0]


def test_one_line_for_all_is_certain_where_the_other_run_has_more() -> None:
    made = Allocation(0, "a", "aten::mm", 8, line=3)
    joined = with_lines(run([made]), run([made, made], lines=True))
    assert lines_of(joined) == [3]


def test_a_run_without_any_line_is_said() -> None:
    made = Allocation(0, "a", "aten::mm", 8, line=3)
    joined = with_lines(run([made]), run([made]))
    assert joined.notes == ("source lines: the run that was to record them saw no Python line of the program",)


def test_a_recording_without_events_joins() -> None:
    joined = with_lines(Script().recording(), run([Allocation(0, "a", "aten::mm", 8, 3)], lines=True))
    assert len(joined.events) == 0
    assert with_lines(Script().recording(), Script().recording()).notes != ()


def test_an_allocation_outside_every_scope_gets_its_line() -> None:
    main, lined = LinedScript(), LinedScript()
    main.alloc(1, 8)
    with lined.line(5):
        lined.alloc(1, 8)
    joined = with_lines(main.recording(), lined.recording())
    assert lines_of(joined) == [5]
    assert joined.scopes.parent.tolist() == [NO_SCOPE]


def test_frees_get_no_line_and_stay_where_they_were() -> None:
    script = LinedScript()
    with script.operator("aten::mm"), script.line(5):
        script.alloc(1, 8)
        script.free(1, 8)
    main = Script()
    with main.operator("aten::mm"):
        main.alloc(1, 8)
        main.free(1, 8)
    joined = with_lines(main.recording(), script.recording())
    assert lines_of(joined) == [5, 0]
    assert joined.events.scope[1] == 0


def test_the_line_of_an_operator_that_allocates_nothing_is_joined() -> None:
    def program(lined: bool) -> Recording:
        script = LinedScript()
        for sequence, line in ((1, 7), (2, 8)):
            with script.operator("aten::select", sequence):
                if lined:
                    with script.line(line):
                        pass
        return script.recording()

    joined = with_lines(program(False), program(True)).scopes
    frames = np.flatnonzero(joined.kind == ScopeKind.PYTHON_FRAME)
    assert joined.value[frames].tolist() == [7, 8]
    assert joined.parent[frames].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["training", "inference"])
def test_real_runs_join_fully(name: str) -> None:
    record_pass("mlp", name)  # whatever the first run in this process loads is loaded
    main, lined = (record_pass("mlp", name, lines=lines).recording for lines in (False, True))
    joined = with_lines(main, lined)
    assert joined.notes == main.notes
    assert_unchanged_but_for_frames(main, joined)
    births = main.events.size > 0
    assert np.array(lines_of(joined))[births].tolist() == np.array(lines_of(lined))[births].tolist()
    assert any(lines_of(joined))


def test_joining_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['torch'] = None; import vramscope.recorders.joining"
    result: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
