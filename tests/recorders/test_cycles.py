"""Where a training step ends when optimizers take turns."""

import gc
from collections.abc import Iterator

import pytest
import torch
from torch.optim import SGD, Optimizer

from vramscope.recorders import cycles
from vramscope.recorders.cycles import OptimizerCycle


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Optimizers that other tests hold on to would be waited for."""
    is_optimizer = cycles._is_optimizer
    older = [thing for thing in gc.get_objects() if is_optimizer(thing)]
    monkeypatch.setattr(cycles, "_is_optimizer", lambda thing: is_optimizer(thing) and thing not in older)
    gc.disable()
    yield
    gc.enable()


def optimizer() -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], 0.1)


def ends(*steps: Optimizer) -> list[bool]:
    cycle = OptimizerCycle()
    return [cycle.stepped(step) for step in steps]


def test_one_optimizer_ends_every_step() -> None:
    only = optimizer()
    assert ends(only, only, only) == [True, True, True]


def test_the_last_of_two_ends_a_step_once_both_are_known() -> None:
    first, second = optimizer(), optimizer()
    assert ends(first, second, first, second, first, second) == [False, False, False, True, False, True]


def test_a_turn_that_is_left_out_begins_the_cycle_anew() -> None:
    first, second = optimizer(), optimizer()
    assert ends(first, second, first, first, second) == [False, False, False, False, True]


def test_one_that_exists_and_never_steps_is_waited_for_eight_times() -> None:
    only, idle = optimizer(), optimizer()
    assert ends(*[only] * 9) == [*[False] * 7, True, True]
    assert idle.param_groups


def test_one_that_comes_later_is_learnt_anew() -> None:
    first = optimizer()
    cycle = OptimizerCycle()
    assert cycle.stepped(first)
    second = optimizer()
    assert [cycle.stepped(step) for step in (second, first, second, first)] == [False, False, False, True]


def test_a_wrapper_of_the_same_parameters_is_no_other() -> None:
    only = optimizer()
    wrapper = SGD(only.param_groups[0]["params"], 0.1)
    assert ends(only, only) == [True, True]
    assert wrapper.param_groups


def test_one_that_nobody_has_any_more_is_not_waited_for() -> None:
    lost = optimizer()
    lost.itself = lost  # type: ignore[attr-defined]  # only the collector can tell
    del lost
    only = optimizer()
    assert ends(only, only) == [True, True]


def test_one_that_took_the_place_of_another_ends_every_step() -> None:
    cycle = OptimizerCycle()
    found = []
    for _ in range(3):
        only = optimizer()
        found += [cycle.stepped(only), cycle.stepped(only)]
    assert found == [True] * 6


def test_after_many_that_took_a_place_nobody_looks_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    others = cycles._others
    monkeypatch.setattr(cycles, "_others", lambda optimizer: looks.append(1) or others(optimizer))
    cycle, before = OptimizerCycle(), optimizer()
    for _ in range(40):
        latest = optimizer()  # while the one before it lives, so that no address comes back at once
        before = latest
        assert cycle.stepped(before)
    assert len(looks) == 16


def test_pairs_that_took_the_place_of_pairs_end_steps_together_however_often() -> None:
    cycle, found = OptimizerCycle(), []
    for _ in range(20):
        first, second = optimizer(), optimizer()
        found.append([cycle.stepped(step) for step in (first, second, first, second)])
    assert found == [[False, False, False, True]] * 20
