"""Steps and phases as the events see them."""

import numpy as np

from helpers import Script
from vramscope.ledger.periods import NO_PHASE, PHASE_CODE, find_periods
from vramscope.recording.recording import PhaseName


def names(script: Script) -> list[str | None]:
    """The phase's name for every event."""
    periods = find_periods(script.recording())
    rows = periods.phase_of_event[:-1].tolist()
    return [None if row == NO_PHASE else periods.phases[row].name for row in rows]


def test_events_fall_into_the_phase_around_them():
    script = Script()
    script.alloc(1, 1)
    with script.phase("forward"):
        script.alloc(2, 1)
    script.alloc(3, 1)
    with script.phase("backward"):
        script.alloc(4, 1)
        script.alloc(5, 1)
    script.alloc(6, 1)
    assert names(script) == [None, "forward", None, "backward", "backward", None]


def test_an_inner_phase_hides_the_outer_one_and_gives_it_back():
    script = Script()
    with script.phase("optimizer"):  # LBFGS: the optimizer asks for the loss
        script.alloc(1, 1)
        with script.phase("forward"):
            script.alloc(2, 1)
        with script.phase("backward"):
            script.alloc(3, 1)
        script.alloc(4, 1)
        with script.phase("forward"):
            script.alloc(5, 1)
    assert names(script) == ["optimizer", "forward", "backward", "optimizer", "forward"]


def test_phases_three_deep():
    script = Script()
    with script.phase("build"), script.phase("optimizer"):
        script.alloc(1, 1)
        with script.phase("forward"):
            script.alloc(2, 1)
        script.alloc(3, 1)
    assert names(script) == ["optimizer", "forward", "optimizer"]


def test_steps_bound_rows_of_events():
    script = Script()
    script.alloc(1, 1)
    for index in range(2):
        with script.step(index):
            script.alloc(2 + index, 1)
            script.alloc(4 + index, 1)
    script.alloc(9, 1)
    steps = find_periods(script.recording()).steps
    assert [(step.name, step.value, step.first, step.last) for step in steps] == [("step", 0, 1, 3), ("step", 1, 3, 5)]


def test_steps_are_no_phases():
    script = Script()
    with script.step(0):
        script.alloc(1, 1)
    assert names(script) == [None]


def test_codes_are_none_outside_the_recording():
    script = Script()
    with script.phase("backward"):
        script.alloc(1, 1)
    periods = find_periods(script.recording())
    # -1 is a block's birth before the recording, 1 (the number of events) a death after it
    codes = periods.phase_code(np.array([-1, 0, 1], dtype=np.int64))
    assert codes.tolist() == [NO_PHASE, PHASE_CODE[PhaseName.BACKWARD], NO_PHASE]


def test_named_phases_of_some_steps():
    script = Script()
    for index in range(3):
        with script.step(index):
            with script.phase("forward"):
                script.alloc(10 + index, 1)
            with script.phase("backward"):
                script.free(10 + index, 1)
    periods = find_periods(script.recording())
    found = periods.named("forward", periods.steps[1:3])
    assert [(phase.first, phase.last) for phase in found] == [(2, 3), (4, 5)]


def test_a_phase_without_events_is_kept_and_empty():
    script = Script()
    script.alloc(1, 1)
    with script.phase("optimizer"):
        pass
    script.free(1, 1)
    periods = find_periods(script.recording())
    assert [(phase.name, phase.first, phase.last) for phase in periods.phases] == [("optimizer", 1, 1)]
    assert periods.phase_of_event.tolist() == [NO_PHASE] * 3


def test_an_empty_phase_of_the_step_before_is_not_in_this_window():
    script = Script()
    with script.step(0):
        script.alloc(1, 1)
        with script.phase("optimizer"):  # plain SGD in place: no event
            pass
    with script.step(1):
        script.free(1, 1)
        with script.phase("optimizer"):
            pass
    periods = find_periods(script.recording())
    steady = periods.steps[1]
    assert periods.named("optimizer", [steady]) == periods.phases[1:]


def test_no_events_at_all():
    script = Script()
    with script.step(0), script.phase("forward"):
        pass
    periods = find_periods(script.recording())
    assert (periods.steps[0].first, periods.steps[0].last) == (0, 0)
    assert periods.phase_of_event.tolist() == [NO_PHASE]
