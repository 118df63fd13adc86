"""Memorising, and remedies that are judged by their gap."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vramscope.experiments.frame import Settings
from vramscope.experiments.overfitting import (
    BASELINE,
    RECIPES,
    SEEDS,
    Measured,
    Outcome,
    draw_data,
    judge_memorising,
    judge_memory,
    judge_remedy,
    sizes_of,
)
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


def test_dropout_costs_and_a_smaller_model_saves(measured: Callable[[str], Any]) -> None:
    assert judge_memory(measured("overfitting")).verdict is Verdict.HOLDS


def test_data_are_the_same_for_a_seed() -> None:
    first, second = (draw_data(5, torch.Generator().manual_seed(3))[0] for _ in range(2))
    torch.testing.assert_close(first, second)
