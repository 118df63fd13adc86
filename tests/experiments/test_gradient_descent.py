"""Signs, step sizes, and what optimizers store."""

from collections.abc import Callable
from typing import Any

import pytest

from vramscope.experiments.gradient_descent.descent import (
    MINUS,
    PLUS,
    STABLE,
    TOO_LARGE,
    follow,
    logistic_regression,
    quadratic,
)
from vramscope.experiments.gradient_descent.figure import draw
from vramscope.experiments.gradient_descent.memory import judge_in_place, judge_state
from vramscope.experiments.gradient_descent.signs import judge_minus
from vramscope.findings import Verdict

PARAMETER_BYTES = 4 * 2 * (64 * 64 + 64)  # two float32 layers of 64 x 64 and their biases


def test_minus_descends() -> None:
    assert follow(quadratic(), MINUS, STABLE, 10).always_falls


def test_plus_ascends() -> None:
    assert follow(quadratic(), PLUS, STABLE, 10).always_rises


def test_a_step_too_long_ascends_in_spite_of_minus() -> None:
    # along the steepest axis each step multiplies w by 1 - 2.25
    run = follow(quadratic(), MINUS, TOO_LARGE, 20)
    assert run.losses[-1] > run.losses[0]


def test_the_quadratics_least_loss_is_0() -> None:
    assert quadratic().minimum() == 0.0


def test_no_step_down_goes_below_the_least_loss() -> None:
    problem = logistic_regression(0)
    assert problem.minimum() <= min(follow(problem, MINUS, STABLE, 100).losses)


def test_the_least_loss_is_where_the_slope_is_flat() -> None:
    problem = logistic_regression(0)
    run = follow(problem, MINUS, STABLE, 200)
    # the penalty alone gives a curvature of 0.1: loss - least <= slope² / (2 * 0.1)
    assert run.losses[-1] - problem.minimum() <= run.slope_after**2 / 0.2 + 1e-15


def test_the_sources_claim_holds(measured: Callable[[str], Any]) -> None:
    assert judge_minus(measured("gradient-descent")).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        ("sgd", {}),
        ("sgd:momentum=0.9", {"momentum_buffer": PARAMETER_BYTES}),
        # a float32 counter for each of four tensors
        ("adam", {"exp_avg": PARAMETER_BYTES, "exp_avg_sq": PARAMETER_BYTES, "step": 16}),
        ("adamw", {"exp_avg": PARAMETER_BYTES, "exp_avg_sq": PARAMETER_BYTES, "step": 16}),
    ],
)
def test_the_state_is_as_many_copies_to_the_byte(
    optimizer: str, state: dict[str, int], measured: Callable[[str], Any]
) -> None:
    assert measured("gradient-descent").profiles[optimizer].state_bytes() == state


def test_another_number_of_copies_is_not_borne_out(measured: Callable[[str], Any]) -> None:
    claim = judge_state(measured("gradient-descent"), copies={"adam": 1})
    assert claim.checks["Adam: 1 copy"] is False


def test_one_copy_is_not_called_copies(measured: Callable[[str], Any]) -> None:
    assert "momentum 1 copy;" in judge_state(measured("gradient-descent")).measured


def test_adams_temporaries_follow_the_largest_tensor(measured: Callable[[str], Any]) -> None:
    evidence = judge_in_place(measured("gradient-descent")).evidence
    weight, bias, factor = 64 * 64 * 4, 64 * 4, 8
    # a root and a quotient of the largest tensor, beside the denominator of the bias before it, which a variable holds
    assert (evidence["largest_tensor_bytes"], evidence["temporary_peak_bytes"]["Adam"]) == (
        weight,
        2 * weight + bias + factor,
    )


def test_the_caption_says_what_became_of_the_longer_step(measured: Callable[[str], Any]) -> None:
    # the bound on the logistic regression's curvature is not reached, so that its step is not too long
    words = "a step 4.5 times as long it rises (quadratic), falls (logistic regression)"
    assert words in draw(measured("gradient-descent")).caption
