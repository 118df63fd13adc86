"""The ledger's answers: totals, peaks, compositions, retention, disagreement."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import BASE_TOTAL, MarkKind, Script, assert_agrees, recording_of, with_resized_event, without_event
from vramscope.errors import UsageError
from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger, Moment
from vramscope.ledger.periods import Window
from vramscope.recording.recording import PhaseName, Recording


def three_blocks() -> Script:
    """Levels 10, 40, 30, 90, 60 over five events."""
    script = Script()
    script.alloc(0x10, 10)
    script.alloc(0x20, 30)
    script.free(0x10, 10)
    script.alloc(0x30, 60)
    script.free(0x20, 30)
    return script


# -- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["step.vram", None], ids=str)
def test_what_is_no_recording_is_refused(what):
    with pytest.raises(UsageError, match=r"^Ledger\(…\) takes a Recording, not .*: give profile\.recording, or "):
        Ledger(what)


def test_totals_are_counted_from_the_beginning_of_the_recording():
    ledger = three_blocks().ledger()
    assert ledger.recording.events.total.tolist() == [BASE_TOTAL + level for level in (10, 40, 30, 90, 60)]
    assert ledger.allocator_totals().tolist() == [10, 40, 30, 90, 60]
    assert ledger.ledger_totals().tolist() == [10, 40, 30, 90, 60]
    assert_agrees(ledger)


def test_seeds_are_there_from_the_beginning():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x20, 5)
    script.free(0x10, 100)
    ledger = script.ledger()
    assert ledger.initial_bytes() == 100
    assert ledger.allocator_totals().tolist() == [105, 5]
    assert_agrees(ledger)


def test_seeds_that_went_silently_no_longer_count():
    script = Script()
    script.seed(0x10, 100)
    script.seed(0x20, 50)
    script.alloc(0x30, 5)
    script.gone(0x10)
    script.alloc(0x20, 7)  # the other seed's place: so that one is gone too
    script.free(0x30, 5)
    ledger = script.ledger()
    assert ledger.initial_bytes() == 150
    # 150 + 5, then without the 100 and the 50 but with the 7, then without the 5
    assert ledger.allocator_totals().tolist() == [155, 12, 7]
    assert [sum(ledger.composition(event).values()) for event in range(3)] == [155, 12, 7]
    assert ledger.peak() == Moment(event=0, bytes=155)
    assert_agrees(ledger)


def test_each_device_has_totals_of_its_own():
    script = Script(devices=2)
    script.alloc(0x10, 10, device=0)
    script.alloc(0x10, 700, device=1)
    script.free(0x10, 10, device=0)
    ledger = script.ledger()
    assert ledger.allocator_totals(0).tolist() == [10, 0]
    assert ledger.allocator_totals(1).tolist() == [700]
    assert (ledger.peak(device=0).bytes, ledger.peak(device=1).bytes) == (10, 700)
    assert sum(ledger.composition(1, 0).values()) == 10
    assert sum(ledger.composition(1, 1).values()) == 700
    assert_agrees(ledger)


# -- peaks ------------------------------------------------------------------------------------------------------------


def test_the_peak_of_everything():
    assert three_blocks().ledger().peak() == Moment(event=3, bytes=90)


def test_the_peak_is_the_first_of_equally_high_moments():
    script = Script()
    for _ in range(2):
        script.alloc(0x10, 10)
        script.free(0x10, 10)
    assert script.ledger().peak() == Moment(event=0, bytes=10)


def test_a_window_begins_with_the_state_before_its_first_event():
    ledger = three_blocks().ledger()
    # rows 2 and 4 lower the level from 40 and 90: what was there just before counts
    assert ledger.peak(Window(2, 3)) == Moment(event=1, bytes=40)
    assert ledger.peak(Window(4, 5)) == Moment(event=3, bytes=90)


def test_a_window_that_only_gets_back_to_where_it_began_has_its_peak_at_the_beginning():
    script = Script()
    script.alloc(0x10, 10)
    script.free(0x10, 10)
    script.alloc(0x10, 10)
    ledger = script.ledger()
    assert ledger.peak(Window(1, 3)) == Moment(event=0, bytes=10)
    everything = np.ones(len(ledger.blocks), dtype=np.bool_)
    assert ledger.peak_of(everything, Window(1, 3)) == Moment(event=0, bytes=10)


def test_a_window_ends_before_its_last_row():
    assert three_blocks().ledger().peak(Window(0, 3)) == Moment(event=1, bytes=40)


def test_an_empty_window_has_the_level_it_stands_at():
    assert three_blocks().ledger().peak(Window(2, 2)) == Moment(event=1, bytes=40)


def test_a_window_before_every_event_has_what_was_there():
    script = Script()
    script.seed(0x10, 100)
    script.free(0x10, 100)
    assert script.ledger().peak() == Moment(event=BEFORE, bytes=100)
    assert script.ledger().peak(Window(0, 0)) == Moment(event=BEFORE, bytes=100)


def cleared() -> Script:
    """Gradients of 100 bytes and a weight of 40, older than the recording; 10 bytes come, then the gradients are gone.

    In the optimizer's phase after that nothing happens; in the forward phase 5 bytes come and go.
    """
    script = Script()
    script.seed(0x10, 100)
    script.mark(MarkKind.GRADIENT, "a.weight", 0x10)
    script.seed(0x20, 40)
    script.mark(MarkKind.PARAMETER, "a.weight", 0x20)
    script.alloc(0x30, 10)
    script.gone(0x10)
    with script.phase("optimizer"):
        pass
    with script.phase("forward"):
        script.alloc(0x40, 5)
        script.free(0x40, 5)
    return script


def test_a_period_begins_without_what_was_found_gone_before_it():
    ledger = cleared().ledger()
    _, forward = ledger.periods.phases
    # 40 + 10 + 5; with the gradients, which row 0 still has, it would begin at 150
    assert ledger.peak(forward) == Moment(event=1, bytes=55)


def test_a_period_without_events_has_the_composition_that_is_left():
    ledger = cleared().ledger()
    optimizer, _ = ledger.periods.phases
    moment = ledger.peak(optimizer)
    assert moment.bytes == 50  # 40 + 10
    assert {c: b for c, b in ledger.composition_at(moment).items() if b} == {
        Category.PARAMETERS: 40,
        Category.UNATTRIBUTED: 10,
    }


def test_a_period_after_the_last_event_begins_without_what_was_found_gone():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x20, 7)
    script.gone(0x10)
    with script.phase("optimizer"):
        pass
    ledger = script.ledger()
    (optimizer,) = ledger.periods.phases
    assert ledger.peak(optimizer).bytes == 7


def test_what_is_found_gone_within_a_period_is_there_when_it_begins():
    script = Script()
    script.seed(0x10, 100)
    with script.phase("forward"):
        script.gone(0x10)
        script.alloc(0x20, 5)
    ledger = script.ledger()
    (forward,) = ledger.periods.phases
    moment = ledger.peak(forward)
    assert moment == Moment(event=BEFORE, bytes=100)


def test_what_an_event_frees_is_there_until_then():
    script = Script()
    script.seed(0x10, 100)
    script.gone(0x10)
    with script.phase("forward"):
        script.free(0x10, 100)
    ledger = script.ledger()
    (forward,) = ledger.periods.phases
    moment = ledger.peak(forward)
    assert moment == Moment(event=BEFORE, bytes=100)


def test_a_category_begins_a_window_without_what_was_found_gone_long_before_it():
    ledger = cleared().ledger()
    # the gradients are gone by row 1 and have no event of their own: a window that begins with row 2 has none
    assert ledger.category_peak(Category.GRADIENTS, Window(2, 3)).bytes == 0


def test_a_category_begins_a_period_without_what_was_found_gone_just_before_it():
    ledger = cleared().ledger()
    _, forward = ledger.periods.phases
    assert ledger.category_peak(Category.GRADIENTS, forward).bytes == 0


def test_on_another_device_a_window_begins_without_what_was_found_gone_too():
    script = Script(devices=2)
    script.seed(0x10, 100)
    script.gone(0x10)
    script.alloc(0x20, 5, device=1)
    first = script.alloc(0x30, 7)
    assert script.ledger().peak(Window(first, first + 1)).bytes == 7


def test_a_recording_without_events():
    ledger = Script().ledger()
    assert ledger.peak() == Moment(event=BEFORE, bytes=0)
    assert ledger.max_disagreement_bytes() == 0
    assert sum(ledger.composition(BEFORE).values()) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 99)), max_size=30), st.data())
def test_peaks_agree_with_the_definition(actions, data):
    script, living, levels = Script(), {}, [50]
    script.seed(0x999, 50)
    for place, size in actions:
        if place in living:
            script.free(place, living[place])
            levels.append(levels[-1] - living.pop(place))
        else:
            living[place] = size
            script.alloc(place, size)
            levels.append(levels[-1] + size)
    first = data.draw(st.integers(0, len(actions)))
    last = data.draw(st.integers(first, len(actions)))
    ledger = script.ledger()
    window = levels[first : last + 1]  # levels[k] is the level just before event k
    peak = ledger.peak(Window(first, last))
    assert peak == Moment(event=first - 1 + window.index(max(window)), bytes=max(window))
    assert sum(ledger.composition(peak.event).values()) == peak.bytes
    everything = np.ones(len(ledger.blocks), dtype=np.bool_)
    assert ledger.peak_of(everything, Window(first, last)) == peak
    assert_agrees(ledger)


_HAPPENINGS = (
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 99), st.booleans()), max_size=40),
    st.integers(0, 4095),
)


def some_going_silently(actions, seeded) -> tuple[Script, list[list[int]]]:
    """Seeds, reuse of their places, silent ends and frees of unknown blocks, and the levels of the two devices."""
    script = Script(devices=2)
    places = [(place, device) for place in range(6) for device in range(2)]
    living = {place: 11 + index for index, place in enumerate(places) if seeded >> index & 1}
    silent = dict(living)  # seeds: only these may go without an event
    for (place, device), size in living.items():
        script.seed(place, size, device)
    levels: list[list[int]] = [[], []]
    for place, device, size, silently in actions:
        key = (place, device)
        if key in silent and silently:
            script.gone(place, device)
            del silent[key], living[key]
            continue
        silent.pop(key, None)
        if key in living and not (silently and key not in silent):
            script.free(place, living.pop(key), device)
        elif key not in living:
            living[key] = size
            script.alloc(place, size, device)
        else:
            continue
        levels[device].append(sum(size for (_, on), size in living.items() if on == device))
    return script, levels


@given(*_HAPPENINGS)
def test_seeds_of_which_some_go_silently_on_two_devices(actions, seeded):
    """The levels are those of a dictionary."""
    script, levels = some_going_silently(actions, seeded)
    ledger = script.ledger()
    assert [ledger.allocator_totals(device).tolist() for device in range(2)] == levels
    assert_agrees(ledger)
    for device in range(2):
        peak = ledger.peak(device=device)
        assert sum(ledger.composition(peak.event, device).values()) == peak.bytes


@given(*_HAPPENINGS)
def test_chosen_blocks_of_which_some_go_silently_on_two_devices(actions, seeded):
    """What chosen blocks hold just after each event is what those of them that are alive then add up to."""
    script, _ = some_going_silently(actions, seeded)
    ledger = script.ledger()
    blocks, events = ledger.blocks, np.arange(BEFORE, len(ledger))
    odd = blocks.size % 2 == 1
    for device in range(2):
        mine = odd & (blocks.device == device)
        levels = [int(blocks.size[mine & blocks.alive_after(event)].sum()) for event in events.tolist()]
        assert ledger.levels_of(odd, events, device).tolist() == levels
        assert ledger.peak_of(odd, device=device).bytes == max(levels)


# -- compositions -----------------------------------------------------------------------------------------------------


def marked() -> Script:
    script = Script()
    script.seed(0x10, 100)
    script.mark(MarkKind.PARAMETER, "a.weight", 0x10)
    script.alloc(0x20, 30)
    script.mark(MarkKind.GRADIENT, "a.weight", 0x20, owner="a.weight")
    script.alloc(0x30, 7)
    script.free(0x20, 30)
    return script


def test_a_composition_has_every_category():
    composition = marked().ledger().composition(1)
    assert set(composition) == set(Category)
    assert {c: b for c, b in composition.items() if b} == {
        Category.PARAMETERS: 100,
        Category.GRADIENTS: 30,
        Category.UNATTRIBUTED: 7,
    }


def test_compositions_at_the_beginning_and_at_the_end():
    ledger = marked().ledger()
    assert {c: b for c, b in ledger.composition(BEFORE).items() if b} == {Category.PARAMETERS: 100}
    assert {c: b for c, b in ledger.composition(2).items() if b} == {
        Category.PARAMETERS: 100,
        Category.UNATTRIBUTED: 7,
    }


def test_requested_bytes_have_a_composition_of_their_own():
    script = Script()
    script.alloc(0x10, 512, requested=400)
    script.mark(MarkKind.PARAMETER, "w", 0x10)
    ledger = script.ledger()
    assert ledger.composition(0)[Category.PARAMETERS] == 512
    assert ledger.composition(0, requested=True)[Category.PARAMETERS] == 400


def test_the_timeline_is_the_composition_at_every_event():
    ledger = marked().ledger()
    times, levels = ledger.timeline()
    assert times.tolist() == ledger.recording.events.time_ns.tolist()
    for event in range(len(ledger)):
        assert levels[event].tolist() == list(ledger.composition(event).values())


def test_the_fullest_moment_of_one_category():
    ledger = marked().ledger()
    assert ledger.category_peak(Category.GRADIENTS, Window(0, 3)) == Moment(event=0, bytes=30)
    assert ledger.category_peak(Category.UNATTRIBUTED, Window(0, 3)) == Moment(event=1, bytes=7)


def test_seeds_count_in_the_fullest_moment_of_a_category():
    ledger = marked().ledger()
    assert ledger.category_peak(Category.PARAMETERS, Window(0, 3)).bytes == 100
    assert ledger.category_peak(Category.PARAMETERS, Window(1, 2)).bytes == 100


def test_seeds_that_the_first_event_frees_count_in_a_window_that_begins_with_it():
    script = Script()
    script.seed(0x10, 100)
    script.mark(MarkKind.GRADIENT, "w", 0x10)
    script.free(0x10, 100)
    assert script.ledger().category_peak(Category.GRADIENTS, Window(0, 1)) == Moment(event=BEFORE, bytes=100)


# -- modules ----------------------------------------------------------------------------------------------------------


def test_blocks_belong_to_modules_by_parameter_or_by_computation():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.PARAMETER, "body.0.weight", 0x10)
    script.alloc(0x20, 1)
    script.mark(MarkKind.GRADIENT, "body.1.bias", 0x20, owner="body.1.bias")
    script.alloc(0x30, 1)
    script.mark(MarkKind.OPTIMIZER_STATE, "exp_avg", 0x30, owner="head.weight")
    script.alloc(0x40, 1)
    script.mark(MarkKind.BUFFER, "scale", 0x40)
    with script.module(""), script.module("body"), script.operator("aten::mul"):
        script.alloc(0x50, 1)
    with script.operator("aten::mul"):
        script.alloc(0x60, 1)
    ledger = script.ledger()
    paths = {int(a): ledger.module_paths[m] for a, m in zip(ledger.blocks.address, ledger.module, strict=True)}
    assert paths == {0x10: "body.0", 0x20: "body.1", 0x30: "head", 0x40: "", 0x50: "body", 0x60: ""}


def test_peaks_by_module():
    script = Script()
    with script.phase("forward"):
        for _ in range(2):
            with script.module("a"), script.operator("aten::mul"):
                script.alloc(0x10, 10)
            with script.module("b"), script.operator("aten::mul"):
                script.alloc(0x20, 5)
                script.alloc(0x30, 6)
            script.free(0x10, 10)
            script.free(0x20, 5)
            script.free(0x30, 6)
    ledger = script.ledger()
    peaks = ledger.peaks_by_module(ledger.is_category(Category.ACTIVATIONS))
    assert dict(zip(ledger.module_paths, peaks.tolist(), strict=True))["a"] == 10
    assert dict(zip(ledger.module_paths, peaks.tolist(), strict=True))["b"] == 11
    assert peaks.sum() == 21


def test_a_module_that_holds_something_through_the_whole_window_has_a_peak():
    script = Script()
    with script.phase("forward"), script.module("a"), script.operator("aten::mul"):
        script.alloc(0x10, 10)  # a cache that stays
    with script.phase("forward"), script.module("b"), script.operator("aten::mul"):
        first = script.alloc(0x20, 5)
        script.alloc(0x30, 7)  # after the window
    ledger = script.ledger()
    peaks = ledger.peaks_by_module(ledger.is_category(Category.ACTIVATIONS), Window(first, first + 1))
    assert {path: peak for path, peak in zip(ledger.module_paths, peaks.tolist(), strict=True) if peak} == {
        "a": 10,
        "b": 5,
    }


def test_a_module_does_not_hold_what_was_found_gone_beside_what_took_its_place():
    script = Script()
    script.seed(0x10, 100)
    script.mark(MarkKind.GRADIENT, "a.weight", 0x10)
    script.gone(0x10)
    with script.phase("backward"):
        script.alloc(0x20, 100)
        script.mark(MarkKind.GRADIENT, "a.weight", 0x20)
    ledger = script.ledger()
    every = np.ones(len(ledger.blocks), dtype=np.bool_)
    peaks = ledger.peaks_by_module(every)
    assert peaks.max() == 100  # the old gradients, then the new ones, never both


def test_a_module_begins_a_period_without_what_was_found_gone_before_it():
    ledger = cleared().ledger()
    _, forward = ledger.periods.phases
    gradients = ledger.is_category(Category.GRADIENTS)
    peaks = ledger.peaks_by_module(gradients, forward)
    assert peaks.max() == 0


# -- retention --------------------------------------------------------------------------------------------------------


def test_retained_is_what_was_born_in_forward_and_lives_when_backward_begins():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)  # autograd saves it
        script.alloc(0x20, 1)  # transient
        script.alloc(0x30, 1)  # a variable keeps it
        script.alloc(0x31, 1)  # another one, for longer
    script.free(0x20, 1)
    with script.phase("backward"), script.node("MulBackward0", sequence=0), script.operator("aten::mul"):
        script.alloc(0x40, 1)
        script.free(0x40, 1)
        script.free(0x10, 1)
    with script.phase("optimizer"):
        script.free(0x30, 1)
    script.free(0x31, 1)
    ledger = script.ledger()
    assert by_address(ledger, ledger.retained) == {0x10, 0x30, 0x31}
    assert by_address(ledger, ledger.held_by_autograd) == {0x10}


def test_a_block_freed_as_the_last_thing_before_backward_is_not_retained():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)
        script.alloc(0x20, 1)
        script.free(0x20, 1)  # outside the operator it would be an activation too
    script.free(0x10, 1)
    with script.phase("backward"), script.node("MulBackward0"):
        script.alloc(0x30, 1)
    assert not script.ledger().retained.any()


def test_a_block_freed_by_the_first_event_of_backward_is_retained():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)
    with script.phase("backward"):
        script.free(0x10, 1)
    ledger = script.ledger()
    assert by_address(ledger, ledger.retained) == {0x10}


def test_an_activation_made_by_the_first_event_of_backward_is_not_retained():
    script = Script()
    with script.phase("backward"), script.module("a"), script.operator("aten::mul"):  # a hook of the program's
        script.alloc(0x10, 1)
    ledger = script.ledger()
    assert ledger.is_category(Category.ACTIVATIONS).all()
    assert not ledger.retained.any()


def test_parameters_and_inputs_are_never_retained_activations():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)
    script.mark(MarkKind.INPUT, "x", 0x10)
    with script.phase("backward"), script.node("MulBackward0"):
        script.alloc(0x30, 1)
    assert not script.ledger().retained.any()


def test_a_recomputed_activation_is_not_retained_by_an_inner_backward_pass():
    script = Script()
    with script.phase("backward"), script.node("CheckpointFunctionBackward"):
        with script.module("a"), script.operator("aten::mul", sequence=1):
            script.alloc(0x10, 1)
        with script.phase("backward"), script.node("MulBackward0", sequence=1):
            script.free(0x10, 1)
    ledger = script.ledger()
    assert ledger.recomputed.all()
    assert not ledger.retained.any()


def by_address(ledger: Ledger, chosen) -> set[int]:
    return set(ledger.blocks.address[chosen].tolist())


# -- names of moments -------------------------------------------------------------------------------------------------


def test_a_moment_has_phase_module_and_operator():
    script = Script()
    with script.phase("forward"), script.module("a"), script.operator("aten::linear"), script.operator("aten::addmm"):
        script.alloc(0x10, 1)
    with script.phase("backward"), script.node("AccumulateGrad"):
        script.alloc(0x20, 1)
    script.free(0x20, 1)
    with script.operator("aten::add"):
        script.alloc(0x20, 1)
    ledger = script.ledger()
    assert (ledger.phase_at(0), ledger.module_at(0), ledger.operator_at(0)) == (PhaseName.FORWARD, "a", "aten::linear")
    assert (ledger.phase_at(1), ledger.module_at(1), ledger.operator_at(1)) == ("backward", "", "AccumulateGrad")
    assert (ledger.phase_at(2), ledger.module_at(2), ledger.operator_at(2)) == (None, "", None)
    assert (ledger.phase_at(BEFORE), ledger.module_at(BEFORE), ledger.operator_at(BEFORE)) == (None, "", None)


# -- disagreement -----------------------------------------------------------------------------------------------------


def test_a_lost_event_at_the_very_end_disagrees_with_the_total_there():
    recording = three_blocks().recording()
    assert Ledger(without_event(recording, 4)).max_disagreement_bytes() == 30


def test_a_lost_event_at_the_very_beginning_disagrees():
    recording = three_blocks().recording()
    assert Ledger(without_event(recording, 0)).max_disagreement_bytes() == 10


def test_a_free_of_another_size_than_its_allocation_disagrees():
    recording = three_blocks().recording()
    assert Ledger(with_resized_event(recording, 2, 5)).max_disagreement_bytes() == 5


def test_a_wrong_total_of_the_allocator_disagrees():
    recording = three_blocks().recording()
    total = recording.events.total.copy()
    total[2] += 8
    wrong = replace(recording, events=replace(recording.events, total=total))
    assert Ledger(wrong).max_disagreement_bytes() == 8


def test_a_wrong_start_disagrees():
    recording = three_blocks().recording()
    device = replace(recording.devices[0], start_total=BASE_TOTAL - 16)
    assert Ledger(replace(recording, devices=(device,))).max_disagreement_bytes() == 16


def test_one_devices_events_do_not_excuse_the_others():
    script = Script(devices=2)
    script.alloc(0x10, 10, device=0)
    script.alloc(0x10, 10, device=1)
    broken = without_event(script.recording(), 1)
    assert Ledger(broken).max_disagreement_bytes(0) == 0
    assert Ledger(broken).max_disagreement_bytes(1) == 10


@cache
def real_recording() -> Recording:
    """A real recording of two steps, started before the model was built."""
    with recording_of() as running:
        with running.recorder.phase("build"):
            model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
            optimizer = torch.optim.AdamW(model.parameters())
            images = torch.randn(2, 1, 8, 8)
        running.recorder.watch(model)
        running.recorder.mark_inputs(images)
        for _ in range(2):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    assert running.recording is not None
    return running.recording


def test_the_real_recording_agrees():
    real = real_recording()
    assert len(real.events) > 100
    assert_agrees(Ledger(real))


def test_losing_any_one_event_of_a_real_recording_is_noticed():
    real = real_recording()
    unnoticed = [
        row for row in range(len(real.events)) if Ledger(without_event(real, row)).max_disagreement_bytes() == 0
    ]
    assert unnoticed == []


@pytest.mark.parametrize("more_bytes", [1, 4096])
def test_resizing_any_one_event_of_a_real_recording_is_noticed(more_bytes):
    real = real_recording()
    changed = (with_resized_event(real, row, more_bytes) for row in range(len(real.events)))
    assert [row for row, one in enumerate(changed) if Ledger(one).max_disagreement_bytes() == 0] == []


@given(data=st.data())
def test_any_change_of_one_event_of_a_real_recording_is_noticed(data):
    real = real_recording()
    row = data.draw(st.integers(0, len(real.events) - 1))
    if data.draw(st.booleans()):
        changed = without_event(real, row)
    else:
        least = 1 - abs(int(real.events.size[row]))  # an event of no bytes would be another fact, not another size
        more = data.draw(st.integers(least, 1 << 40).filter(bool))
        changed = with_resized_event(real, row, more)
    assert Ledger(changed).max_disagreement_bytes() > 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 64)), min_size=1, max_size=25), st.data())
def test_any_change_of_one_event_is_noticed(actions, data):
    script, living = Script(), {}
    for place, size in actions:
        if place in living:
            script.free(place, living.pop(place))
        else:
            living[place] = size
            script.alloc(place, size)
    recording = script.recording()
    row = data.draw(st.integers(0, len(actions) - 1))
    more = data.draw(st.integers(1 - abs(int(recording.events.size[row])), 99).filter(bool))
    assert Ledger(recording).max_disagreement_bytes() == 0
    assert Ledger(without_event(recording, row)).max_disagreement_bytes() > 0
    assert Ledger(with_resized_event(recording, row, more)).max_disagreement_bytes() > 0
