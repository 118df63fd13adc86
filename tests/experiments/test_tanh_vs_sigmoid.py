"""The identity, the derivatives' ranges that the source swapped, and the rest."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vramscope.experiments.tanh_vs_sigmoid.claims_on_functions import (
    AS_THE_SOURCE_HAS_THEM,
    Range,
    judge_cancellation,
    judge_chain_rule,
    judge_identity,
    judge_ranges,
    judge_source_ranges,
)
from vramscope.experiments.tanh_vs_sigmoid.claims_on_learning import (
    judge_centred,
    judge_centring,
    judge_memory,
    judge_slope,
    judge_speed,
)
from vramscope.experiments.tanh_vs_sigmoid.identity import DTYPES, derivative
from vramscope.experiments.tanh_vs_sigmoid.learning import FORMS, LEARNING_RATES, epochs_until, form_of
from vramscope.findings import Verdict

NAME = "tanh-vs-sigmoid"


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_the_identity_holds_to_four_eps(dtype: str, measured: Callable[[str], Any]) -> None:
    assert measured(NAME).identities[dtype].error_in_eps <= 4


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_cancellation_explains_the_relative_error(dtype: str, measured: Callable[[str], Any]) -> None:
    assert measured(NAME).identities[dtype].bound_share <= 1


def test_the_ranges_hold(measured: Callable[[str], Any]) -> None:
    assert judge_ranges(measured(NAME)).verdict is Verdict.HOLDS


def test_the_ranges_swapped_back_fail(measured: Callable[[str], Any]) -> None:
    assert judge_ranges(measured(NAME), AS_THE_SOURCE_HAS_THEM).verdict is Verdict.FAILS


def test_the_sources_own_claim_is_found_to_fail(measured: Callable[[str], Any]) -> None:
    assert judge_source_ranges(measured(NAME)).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    "rule", [judge_identity, judge_cancellation, judge_chain_rule, judge_centred, judge_speed, judge_memory]
)
def test_the_claim_holds(rule: Callable[[Any], Any], measured: Callable[[str], Any]) -> None:
    assert rule(measured(NAME)).verdict is Verdict.HOLDS


def test_a_range_that_is_never_reached_is_not_the_range() -> None:
    assert not Range(1.0).describes(1e-9, 0.25)


def test_a_range_that_is_left_is_not_the_range() -> None:
    assert not Range(0.25).describes(1e-9, 1.0)


@pytest.mark.parametrize("highest", [0.25 + 1e-5, 0.25 - 1e-5, math.nextafter(0.25, 1)])
def test_an_end_is_reached_and_not_exceeded(highest: float) -> None:
    assert not Range(0.25).describes(1e-9, highest)


def test_a_range_open_at_0_does_not_hold_0() -> None:
    assert not Range(0.25).describes(0.0, 0.25)


@pytest.mark.parametrize("name", list(FORMS))
def test_a_form_is_as_steep_and_as_centred_as_it_says(name: str) -> None:
    form, zero = FORMS[name], torch.zeros(1, dtype=torch.float64)
    slope, middle = float(derivative(form.make(), zero)), float(form.make()(zero))
    assert (slope, middle == 0) == (1.0 if form.steep else 0.25, form.centred)


def test_every_combination_of_slope_and_centre_has_a_form() -> None:
    assert len({form_of(steep=s, centred=c) for s in (True, False) for c in (True, False)}) == 4


def with_epochs(found: Any, epochs: dict[str, int]) -> Any:
    """As if each function reached the threshold after so many epochs, from every seed at every rate."""
    curves = {name: ((1.0,) * count + (0.0,),) * 5 for name, count in epochs.items()}
    return dataclasses.replace(found, losses=dict.fromkeys(LEARNING_RATES, curves))


def test_the_slope_is_no_cause_where_the_centre_makes_all_the_difference(measured: Callable[[str], Any]) -> None:
    found = with_epochs(measured(NAME), {"tanh": 10, "sigmoid - 1/2": 10, "tanh + 1": 50, "sigmoid": 50})
    verdicts = [rule(found).verdict for rule in (judge_speed, judge_slope, judge_centring)]
    assert verdicts == [Verdict.HOLDS, Verdict.FAILS, Verdict.HOLDS]


def test_the_slope_is_the_cause_where_the_centre_makes_no_difference(measured: Callable[[str], Any]) -> None:
    found = with_epochs(measured(NAME), {"tanh": 10, "sigmoid - 1/2": 50, "tanh + 1": 10, "sigmoid": 50})
    verdicts = [rule(found).verdict for rule in (judge_speed, judge_slope, judge_centring)]
    assert verdicts == [Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS]


def test_the_derivative_of_a_square() -> None:
    assert float(derivative(torch.square, torch.tensor([3.0]))) == 6.0


def test_a_threshold_that_is_never_reached() -> None:
    assert epochs_until((0.5, 0.4), threshold=0.2) is None
