"""Memorising, and remedies that are judged by their gap."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vramscope.experiments.frame import Settings
from vramscope.experiments.overfitting.claims import judge_memorising, judge_remedy
from vramscope.experiments.overfitting.figure import answer
from vramscope.experiments.overfitting.measurement import Measured
from vramscope.experiments.overfitting.memory import judge_memory
from vramscope.experiments.overfitting.recipes import (
    BASELINE,
    RECIPES,
    SEEDS,
    Jitter,
    KeepsBest,
    build_network,
    draw_data,
    sizes_of,
)
from vramscope.experiments.overfitting.training import Outcome
from vramscope.findings import Verdict

REMEDIES = [name for name in RECIPES if name != BASELINE]


def by_hand(before: Outcome, after: Outcome) -> Measured:
    """Outcomes that are the same for every seed."""
    return Measured(sizes_of(Settings(quick=True)), {BASELINE: (before,) * SEEDS, "dropout": (after,) * SEEDS})


def test_the_baseline_memorises(measured: Callable[[str], Any]) -> None:
    assert judge_memorising(measured("overfitting")).verdict is Verdict.HOLDS


@pytest.mark.parametrize("remedy", REMEDIES)
def test_the_spread_is_over_five_seeds(remedy: str, measured: Callable[[str], Any]) -> None:
    assert len(judge_remedy(measured("overfitting"), remedy).evidence["gap_nats_by_seed"]) == 5


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_smaller_gap_is_said_to_be_smaller(remedy: str, measured: Callable[[str], Any]) -> None:
    found = measured("overfitting")
    smaller = found.gaps(remedy).mean < found.gaps(BASELINE).mean
    assert judge_remedy(found, remedy).checks["the mean gap is smaller"] is smaller


def test_a_remedy_that_widens_the_gap_fails() -> None:
    worse = by_hand(Outcome(0.1, 1.0, 1.0, 0.7), Outcome(0.1, 2.0, 1.0, 0.6))
    assert judge_remedy(worse, "dropout").verdict is Verdict.FAILS


def test_a_remedy_that_helps_with_one_seed_less_does_not_hold() -> None:
    better, bad = Outcome(0.5, 0.6, 0.8, 0.8), Outcome(0.1, 5.0, 1.0, 0.5)
    found = by_hand(Outcome(0.1, 4.0, 1.0, 0.6), better)
    found = dataclasses.replace(found, outcomes={**found.outcomes, "dropout": (bad, *(better,) * (SEEDS - 1))})
    assert judge_remedy(found, "dropout").verdict is Verdict.PARTLY


def with_gains(gains: tuple[float, ...]) -> Measured:
    """A remedy that leaves no gap, with these gains of accuracy on new data by seed."""
    before, after = Outcome(0.1, 4.0, 1.0, 0.6), Outcome(0.5, 0.5, 0.8, 0.6)
    outcomes = tuple(dataclasses.replace(after, test_accuracy=0.6 + gain) for gain in gains)
    return dataclasses.replace(by_hand(before, after), outcomes={BASELINE: (before,) * SEEDS, "dropout": outcomes})


def test_a_gain_that_chance_explains_is_none() -> None:
    # mean 0.01, standard error 0.0063: more than one of them above 0, less than the 2.776 of a 95 % interval
    assert judge_remedy(with_gains((0.03, 0.02, 0.01, 0.0, -0.01)), "dropout").verdict is Verdict.PARTLY


def test_a_gain_beyond_chance_is_one() -> None:
    # mean 0.03, standard error 0.0071: the interval begins at 0.010
    assert judge_remedy(with_gains((0.05, 0.04, 0.03, 0.02, 0.01)), "dropout").verdict is Verdict.HOLDS


def test_the_answer_says_what_the_narrowest_gap_is_worth() -> None:
    before, useless = Outcome(0.1, 4.0, 1.0, 0.6, 0.55), Outcome(0.7, 0.7, 0.5, 0.55, 0.55)
    found = dataclasses.replace(
        by_hand(before, before),
        outcomes=dict.fromkeys(RECIPES, (before,) * SEEDS) | {"dropout": (useless,) * SEEDS},
    )
    assert "dropout, which recognises 55.0%: not clearly more than naming the commoner class" in answer(found)


def test_noise_is_for_training_alone() -> None:
    points, layer = torch.zeros(4, 3), Jitter(1.0)
    assert (bool(layer(points).any()), bool(layer.eval()(points).any())) == (True, False)


def test_the_best_weights_come_back() -> None:
    network = KeepsBest(torch.nn.Linear(1, 1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    network.keep()
    for parameter in network.parameters():
        parameter.data.add_(1.0)
    network.restore()
    assert all(map(torch.equal, network.parameters(), before))


def test_the_copy_of_the_best_weights_is_not_trained() -> None:
    sizes = sizes_of(Settings(quick=True))
    plain, keeping = (build_network(sizes, RECIPES[name]) for name in (BASELINE, "early stopping"))
    assert len(list(plain.parameters())) == len(list(keeping.parameters()))


def test_every_remedys_step_is_profiled(measured: Callable[[str], Any]) -> None:
    assert set(measured("overfitting").profiles) == set(RECIPES)


def test_each_remedy_costs_what_it_adds(measured: Callable[[str], Any]) -> None:
    assert judge_memory(measured("overfitting")).verdict is Verdict.HOLDS


def test_data_are_the_same_for_a_seed() -> None:
    first, second = (draw_data(5, torch.Generator().manual_seed(3))[0] for _ in range(2))
    torch.testing.assert_close(first, second)


def test_the_answer_tells_a_narrower_mean_from_every_seed() -> None:
    before, narrow, wide = Outcome(0.1, 4.0, 1.0, 0.6), Outcome(0.5, 0.6, 0.8, 0.8), Outcome(0.1, 5.0, 1.0, 0.5)
    outcomes = dict.fromkeys(RECIPES, (narrow,) * SEEDS)
    outcomes |= {BASELINE: (before,) * SEEDS, "dropout": (wide, *(narrow,) * (SEEDS - 1))}
    words = answer(dataclasses.replace(by_hand(before, before), outcomes=outcomes))
    assert words.startswith("6 of 6 remedies narrow the mean gap") and "5 of them with every seed" in words
