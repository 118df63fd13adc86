"""Where a training step ends when optimizers take turns."""

import gc
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer

from vramscope.recorders.scripts.cycles import OptimizerCycle
from vramscope.recorders.scripts.made_optimizers import MadeOptimizers


@pytest.fixture
def made() -> Iterator[MadeOptimizers]:
    """Those that a test makes; only the collector may take some away when it is asked to."""
    gc.disable()
    with ExitStack() as undo:
        yield MadeOptimizers(undo)
    gc.enable()


@pytest.fixture
def cycle(made: MadeOptimizers) -> OptimizerCycle:
    return OptimizerCycle(made.alive)


def optimizer() -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], 0.1)


def ends(cycle: OptimizerCycle, *steps: Optimizer) -> list[bool]:
    return [cycle.stepped(step) for step in steps]


def word(cycle: OptimizerCycle, order: str) -> str:
    """Steps of optimizers that all exist from the start, a letter each; in capitals where a training step ended."""
    named = {letter: optimizer() for letter in sorted(set(order))}
    return "".join(letter.upper() if cycle.stepped(named[letter]) else letter for letter in order)


def gap(ended: Iterable[bool]) -> int:
    """The most optimizer steps in a row that ended no training step."""
    return max((len(list(run)) for over, run in itertools.groupby(ended) if not over), default=0)


# -- what is regular ---------------------------------------------------------------------------------------------------


def test_one_optimizer_ends_every_step(cycle: OptimizerCycle) -> None:
    assert word(cycle, "aaa") == "AAA"


def test_the_last_of_two_ends_a_step_once_both_are_known(cycle: OptimizerCycle) -> None:
    assert word(cycle, "ababab") == "abaBaB"


def test_a_turn_that_is_left_out_begins_the_cycle_anew(cycle: OptimizerCycle) -> None:
    assert word(cycle, "abaab") == "abaaB"


def test_turns_that_are_left_out_within_a_cycle_are_passed_over(cycle: OptimizerCycle) -> None:
    assert word(cycle, "abcd" + "acd" + "cd" + "abcd") == "abcd" + "acD" + "cD" + "abcD"


def test_one_that_exists_and_never_steps_is_waited_for_eight_times(cycle: OptimizerCycle) -> None:
    only, idle = optimizer(), optimizer()
    assert ends(cycle, *[only] * 9) == [*[False] * 7, True, True]
    assert idle.param_groups


def test_one_of_many_that_was_waited_for_in_vain_ends_every_step_when_it_comes(cycle: OptimizerCycle) -> None:
    assert word(cycle, "a" * 8 + "bbb" + "ccc") == "a" * 7 + "A" + "BBB" + "CCC"


def test_one_that_comes_later_is_learnt_with_those_before_once_they_step_again(cycle: OptimizerCycle) -> None:
    first = optimizer()
    assert cycle.stepped(first)
    second = optimizer()
    assert ends(cycle, second, first, second, first, second, first) == [True, False, True, False, True, False]


def test_more_turns_than_anyone_waits_for_are_learnt_with_the_one_that_comes_then(cycle: OptimizerCycle) -> None:
    # b is waited for eight times; that it belongs to the cycle is known when a steps again
    assert word(cycle, "aaaaaaaaaab" * 3) == "aaaaaaaAAAB" + "aaaaaaaaaaB" * 2


def test_two_that_come_after_a_training_of_another_are_a_cycle(cycle: OptimizerCycle) -> None:
    assert word(cycle, "a" * 200 + "dg" * 4) == "a" * 7 + "A" * 193 + "DG" + "dG" * 3


def test_stages_of_single_ones_are_no_cycle(cycle: OptimizerCycle) -> None:
    # those who come back are waited with eight times, once; the second who does so tells that there is no order
    assert word(cycle, ("a" * 20 + "b" * 20) * 2) == "a" * 7 + "A" * 13 + "B" * 20 + "a" * 7 + "A" * 13 + "B" * 20
    assert cycle.is_irregular


def test_every_optimizer_of_many_steps_once_in_a_cycle(cycle: OptimizerCycle) -> None:
    many = [optimizer() for _ in range(300)]  # one for each parameter, which step in hooks of the backward pass
    ended = ends(cycle, *many * 4)
    assert [place for place, over in enumerate(ended) if over] == [599, 899, 1199]


def test_a_wrapper_of_the_same_parameters_is_no_other(cycle: OptimizerCycle) -> None:
    only = optimizer()
    wrapper = SGD(only.param_groups[0]["params"], 0.1)
    assert ends(cycle, only, only) == [True, True]
    assert wrapper.param_groups


def test_one_that_nobody_has_any_more_is_not_waited_for(cycle: OptimizerCycle) -> None:
    lost = optimizer()
    lost.itself = lost  # type: ignore[attr-defined]  # only the collector can tell
    del lost
    assert word(cycle, "aa") == "AA"


def test_one_that_took_the_place_of_another_ends_every_step(cycle: OptimizerCycle) -> None:
    assert [word(cycle, "aa") for _ in range(3)] == ["AA"] * 3


def test_those_that_are_kept_though_others_took_their_place_are_not_waited_for(cycle: OptimizerCycle) -> None:
    kept, found = [], []
    for _ in range(5):
        kept.append(optimizer())
        found += ends(cycle, kept[-1], kept[-1])
    assert found == [True] * 10


def test_garbage_is_collected_a_few_times_only(cycle: OptimizerCycle, monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collections.append(1))
    found = [word(cycle, "abab") for _ in range(40)]
    assert (found, len(collections)) == (["abaB"] * 40, 16)


def test_pairs_that_took_the_place_of_pairs_end_steps_together_however_often(cycle: OptimizerCycle) -> None:
    assert [word(cycle, "abab") for _ in range(20)] == ["abaB"] * 20


# -- cycles that change ------------------------------------------------------------------------------------------------


def test_fewer_turns_of_the_critic_make_a_new_cycle(cycle: OptimizerCycle) -> None:
    ended = word(cycle, "gddddddd" * 3 + "gddddd" * 12)
    assert ended.startswith("gddddddd" + "gddddddD" * 2)
    # 2 x 8 + 8 steps may pass without an end of the eight that were learnt: with the next, the first of the fifth
    # round, they are given up, and that round is what is learnt then
    assert ended[24:] == "gddddd" * 5 + "gddddD" * 7
    assert not cycle.is_irregular


@pytest.mark.parametrize("turns", [3, 9], ids=["fewer", "more"])
def test_a_run_of_another_length_is_part_of_the_same_cycle(cycle: OptimizerCycle, turns: int) -> None:
    assert word(cycle, "dddddg" * 2 + ("d" * turns + "g") * 20)[6:] == "dddddG" + ("d" * turns + "G") * 20
    assert not cycle.is_irregular


def test_a_warm_up_of_one_leaves_the_cycle_of_both(cycle: OptimizerCycle) -> None:
    assert word(cycle, "gggg" + "dg" * 6) == "gggg" + "dg" + "Dg" * 5


def test_one_that_never_comes_back_is_left_out_of_the_cycle(cycle: OptimizerCycle) -> None:
    ended = word(cycle, "a" + "bc" * 80)
    # 128 steps and one of each of three are watched: after the 131st, b, the last two are what repeats
    assert ended == "a" + "bc" * 64 + "bC" + "bC" * 15


def test_one_that_steps_alone_after_another_one_did_ends_every_step_in_the_end(cycle: OptimizerCycle) -> None:
    # as for the critic of a WGAN's first rounds, 128 steps and one of each are watched
    assert word(cycle, "a" + "b" * 140) == "a" + "b" * 128 + "B" * 12
    assert not cycle.is_irregular


def test_one_that_goes_on_alone_ends_every_step_at_last(cycle: OptimizerCycle) -> None:
    # (2 + 8) steps more than the two of a cycle pass in vain, and eight more until it counts as alone
    ended = word(cycle, "dgdg" + "g" * 40)
    assert (ended[:4], ended[-20:]) == ("dgdG", "G" * 20)


def test_random_turns_end_a_step_each(cycle: OptimizerCycle) -> None:
    turns = random.Random(0)  # clients of which three are drawn in each round, and take two steps each
    order = "".join(client * 2 for _ in range(100) for client in turns.sample("abcdefghij", 3))
    ended = word(cycle, order)
    assert cycle.is_irregular
    assert ended.endswith(order[-300:].upper())


_TURNS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(_TURNS, st.integers(0, 20), _TURNS)
def test_some_step_always_ends(before: Sequence[int], times: int, word: Sequence[int]) -> None:
    four = [optimizer() for _ in range(4)]
    cycle = OptimizerCycle(lambda: four)
    order = [*list(before) * times, *word * 1000][: 12 * 20 + 1000]
    with patch.object(gc, "collect"):  # which takes a tenth of a second
        ended = [cycle.stepped(four[number]) for number in order]
    # 132 steps are watched at most, and in a cycle of as many 2 x 132 + 8 may pass without an end; twice
    assert gap(ended) <= 2 * (132 + 2 * 132 + 8)


# -- optimizers that come and go ---------------------------------------------------------------------------------------


def test_inner_optimizers_that_come_and_go_end_steps(cycle: OptimizerCycle) -> None:
    outer, found = optimizer(), []
    for _ in range(4):
        inner = optimizer()  # takes the place of the one before, which is gone with that
        found.append(ends(cycle, inner, inner, inner, outer))
    # the first one waits for the outer one; each later one is alone, since all others have stepped
    assert found == [[False] * 4, *[[True, True, True, False]] * 3]


def test_an_outer_optimizer_steps_alone_where_the_inner_one_is_gone(cycle: OptimizerCycle) -> None:
    outer, found = optimizer(), []
    for _ in range(3):
        found.append([*ends(cycle, *[optimizer()] * 3), cycle.stepped(outer)])
    assert found == [[False, False, False, True], *[[True] * 4] * 2]


def test_a_fresh_optimizer_for_each_step_waits_for_an_idle_one_eight_times(cycle: OptimizerCycle) -> None:
    idle = optimizer()
    assert [cycle.stepped(optimizer()) for _ in range(10)] == [*[False] * 7, True, True, True]
    assert idle.param_groups


# -- what is told ------------------------------------------------------------------------------------------------------


def test_it_is_known_who_stepped_and_who_is_waited_for(cycle: OptimizerCycle) -> None:
    first, second, third = optimizer(), torch.optim.Adam([torch.zeros(1, requires_grad=True)]), optimizer()
    ends(cycle, first, first, third)
    assert (dict(cycle.steps), cycle.awaited) == ({"SGD": 3}, ["Adam"])
    assert ends(cycle, second, first) == [False, False]
    assert cycle.awaited == []


@pytest.mark.parametrize(("round_", "lost"), [("abcab", 2), ("aabac", 3), ("abac", 3)])
def test_a_round_in_which_the_first_one_recurs_is_found(cycle: OptimizerCycle, round_: str, lost: int) -> None:
    said = word(cycle, round_ * 60)
    assert not cycle.is_irregular
    assert 60 - lost <= sum(letter.isupper() for letter in said) <= 60 + lost
    assert [letter.isupper() for letter in said[-2 * len(round_) :]].count(True) == 2


def test_one_that_steps_on_another_thread_is_not_waited_for(cycle: OptimizerCycle) -> None:
    ours, another = optimizer(), optimizer()
    cycle.stepped_elsewhere(another)
    assert ends(cycle, ours, ours) == [True, True]
