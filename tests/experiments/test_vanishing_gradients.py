"""Gradients through sigmoid layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from vramscope.experiments.vanishing_gradients import EXPERIMENT
from vramscope.experiments.vanishing_gradients.claims import (
    judge_activation_is_why,
    judge_bound,
    judge_last_layers,
    judge_memory,
    judge_vanishing,
    timings,
)
from vramscope.experiments.vanishing_gradients.networks import shrink_factor
from vramscope.findings import Verdict

NAME = "vanishing-gradients"


def test_a_known_factor_is_found() -> None:
    assert shrink_factor([1.0, 4.0, 16.0]) == pytest.approx(0.25)  # towards the input, the first of them


@pytest.mark.parametrize("depth", [2, 5, 20])
def test_no_sigmoid_layer_exceeds_its_bound(depth: int, measured: Callable[[str], Any]) -> None:
    found = measured(NAME).gradients["sigmoid"][depth]
    assert all(ratio <= 0.25 * spectral for gradients in found for ratio, spectral in gradients.shrinks())


def test_tanh_and_relu_obey_the_bound_of_their_own_derivative(measured: Callable[[str], Any]) -> None:
    claims = [judge_bound(measured(NAME), 1.0, activation) for activation in ("tanh", "ReLU")]
    assert {claim.verdict for claim in claims} == {Verdict.HOLDS}


def test_tanh_does_not_obey_the_sigmoids_bound(measured: Callable[[str], Any]) -> None:
    assert judge_bound(measured(NAME), 0.25, "tanh").verdict is Verdict.FAILS


@pytest.mark.parametrize("rule", [judge_vanishing, judge_activation_is_why, judge_memory])
def test_the_claim_holds(rule: Callable[[Any], Any], measured: Callable[[str], Any]) -> None:
    assert rule(measured(NAME)).verdict is Verdict.HOLDS


def test_only_many_layers_stop_the_first_from_learning(measured: Callable[[str], Any]) -> None:
    checks = judge_last_layers(measured(NAME)).checks
    assert (checks["2 layers: the first learns nothing"], checks["20 layers: the first learns nothing"]) == (
        False,
        True,
    )


def test_no_verdict_rests_on_a_time(measured: Callable[[str], Any]) -> None:
    found = measured(NAME)
    slower = dataclasses.replace(found, seconds={name: 100 * s for name, s in found.seconds.items()} | {"ReLU": 1e-9})
    assert EXPERIMENT.judge(slower).claims == EXPERIMENT.judge(found).claims


def test_times_are_multiples_of_relus(measured: Callable[[str], Any]) -> None:
    found = dataclasses.replace(measured(NAME), seconds={"ReLU": 2.0, "exp": 6.0})
    assert timings(found)[0].times == {"exp": 3.0}


def test_gelu_keeps_twice_as_much(measured: Callable[[str], Any]) -> None:
    profiles = measured(NAME).profiles
    # 5 layers: GELU keeps its input too, a float32 map of 32 x 32 each
    assert profiles["GELU"].retained_bytes - profiles["ReLU"].retained_bytes == 5 * 32 * 32 * 4


def test_what_counts_as_nothing_is_said(measured: Callable[[str], Any]) -> None:
    assert "below 1% counts as learning nothing" in judge_last_layers(measured(NAME)).measured
