"""The central experiment: what training keeps and inference does not."""

from collections.abc import Callable
from typing import Any

import pytest

from vramscope.experiments import training_vs_inference as experiment
from vramscope.findings import Verdict

NAME = "training-vs-inference"
MODELS = list(experiment.MODELS)


@pytest.mark.parametrize(
    "rule",
    [
        experiment.judge_gradients,
        experiment.judge_state,
        experiment.judge_optimizer_peak,
        experiment.judge_batch,
        experiment.judge_dominance,
        experiment.judge_depth,
        experiment.judge_no_grad,
        experiment.judge_discards,
        experiment.judge_chain,
    ],
)
def test_the_claim_holds(rule: Callable[[Any], Any], measured: Callable[[str], Any]) -> None:
    assert rule(measured(NAME)).verdict is Verdict.HOLDS


def test_learning_rates_are_not_stored_per_weight(measured: Callable[[str], Any]) -> None:
    assert experiment.judge_learning_rates(measured(NAME)).verdict is Verdict.FAILS


def test_gradients_and_learning_rates_do_not_explain_the_difference(measured: Callable[[str], Any]) -> None:
    checks = experiment.judge_explanation(measured(NAME)).checks
    assert not any(passed for name, passed in checks.items() if name.endswith(("batch 16", "batch 1024")))


@pytest.mark.parametrize("model", MODELS)
def test_retained_activations_grow_in_a_straight_line(model: str, measured: Callable[[str], Any]) -> None:
    assert experiment.judge_batch(measured(NAME)).evidence[model]["fit"]["r_squared"] > 0.999


def test_each_block_of_the_mlp_retains_one_map_more(measured: Callable[[str], Any]) -> None:
    # the linear layer's input is the ReLU's output of the block before: one float32 map of 128 x 64
    assert round(experiment.judge_depth(measured(NAME)).evidence["MLP"]["fit"]["slope"]) == 128 * 64 * 4


def test_a_residual_block_holds_its_input_besides_two_maps(measured: Callable[[str], Any]) -> None:
    held = {holding.path: holding for holding in measured(NAME).maps["CNN"].holdings}
    # while conv2 runs, the block's input waits for the addition: 4 samples, 8 channels of 12 x 12, float32
    assert 4 * 8 * 12 * 12 * 4 in held["blocks.0.conv2"].others.values()


def test_the_mlps_forward_keeps_a_blocks_input(measured: Callable[[str], Any]) -> None:
    held = {holding.path: holding for holding in measured(NAME).maps["MLP"].holdings}
    assert held["blocks.1.1"].others == {"aten::relu in blocks.0.1": 128 * 64 * 4}


@pytest.mark.parametrize("model", MODELS)
def test_every_exception_is_named_with_what_was_held(model: str, measured: Callable[[str], Any]) -> None:
    excesses = [holding for holding in measured(NAME).maps[model].holdings if holding.excess_bytes > 0]
    assert excesses and all(sum(holding.others.values()) >= holding.excess_bytes for holding in excesses)


def test_checkpointing_retains_less_in_models_with_large_blocks(measured: Callable[[str], Any]) -> None:
    checks = experiment.judge_checkpointing(measured(NAME)).checks
    assert checks["CNN: retained"] and checks["transformer: retained"]
