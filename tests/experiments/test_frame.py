"""Claims, verdicts and fits: what every experiment's judgement rests on."""

import math

import pytest
import torch

from vramscope.errors import UsageError
from vramscope.experiments.catalogue import EXPERIMENTS, choose
from vramscope.experiments.fits import fit_line, spread_of
from vramscope.experiments.frame import Settings
from vramscope.findings import Claim, Verdict
from vramscope.recorders.threads import one_thread


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [([True, True], Verdict.HOLDS), ([True, False], Verdict.PARTLY), ([False, False], Verdict.FAILS)],
)
def test_a_verdict_follows_from_the_checks(checks: list[bool], verdict: Verdict) -> None:
    assert Claim("a claim", {str(i): passed for i, passed in enumerate(checks)}, "", {}).verdict is verdict


def test_a_claim_without_checks_is_refused() -> None:
    with pytest.raises(ValueError, match="no checks"):
        Claim("a claim", {}, "", {})


def test_a_line_is_found_exactly() -> None:
    line = fit_line([1, 2, 4], [5, 7, 11])  # y = 3 + 2 x
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((2, 3, 1))


def test_a_bent_curve_is_no_straight_line() -> None:
    # x² at 0, 1, 2: the line -1/3 + 2 x leaves squares of 1/9, 4/9, 1/9 of a variance sum of 78/9
    assert fit_line([0, 1, 2], [0, 1, 4]).r_squared == pytest.approx(1 - 6 / 78)


def test_two_points_are_not_fitted() -> None:
    with pytest.raises(ValueError, match="three points"):
        fit_line([1, 2], [1, 2])


def test_spread_is_of_a_sample() -> None:
    spread = spread_of([1.0, 2.0, 3.0])
    assert (spread.mean, spread.deviation, spread.lowest, spread.highest) == (2.0, 1.0, 1.0, 3.0)


def test_the_interval_is_students() -> None:
    # two degrees of freedom: 4.303 standard errors of 1 / sqrt(3)
    assert spread_of([1.0, 2.0, 3.0]).half_width == pytest.approx(4.303 / math.sqrt(3))


def test_a_mean_within_its_interval_of_0_may_be_0() -> None:
    spread = spread_of([-1.0, 0.0, 2.0])
    assert (spread.may_be(0.0), spread.is_positive) == (True, False)


def test_a_mean_farther_than_its_interval_from_0_is_positive() -> None:
    spread = spread_of([9.0, 10.0, 11.0])  # 10 ± 4.303 / sqrt(3)
    assert (spread.may_be(0.0), spread.is_positive) == (False, True)


def test_one_value_has_no_spread() -> None:
    with pytest.raises(ValueError, match="not 1"):
        spread_of([5.0])


def test_one_thread_puts_the_threads_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        pass
    assert torch.get_num_threads() == before


def test_seeds_count_on_from_the_given_one() -> None:
    assert Settings(seed=7).seeds(3) == (7, 8, 9)


def test_without_names_all_experiments_are_chosen() -> None:
    assert [experiment.name for experiment in choose([])] == list(EXPERIMENTS)


def test_an_unknown_experiment_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'overfitting'"):
        choose(["overfiting"])
