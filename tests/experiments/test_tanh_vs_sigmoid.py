"""The identity, the derivatives' ranges that the source swapped, and the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vramscope.experiments.tanh_vs_sigmoid import (
    AS_THE_SOURCE_HAS_THEM,
    DTYPES,
    Range,
    derivative,
    epochs_until,
    judge_cancellation,
    judge_centred,
    judge_chain_rule,
    judge_identity,
    judge_memory,
    judge_ranges,
    judge_source_ranges,
    judge_speed,
)
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


def test_the_derivative_of_a_square() -> None:
    assert float(derivative(torch.square, torch.tensor([3.0]))) == 6.0


def test_a_threshold_that_is_never_reached() -> None:
    assert epochs_until((0.5, 0.4), threshold=0.2) is None
