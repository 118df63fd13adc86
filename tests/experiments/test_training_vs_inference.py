"""The central experiment: what training keeps and inference does not."""

from collections.abc import Callable
from typing import Any

import pytest

from vramscope.experiments.frame import Settings
from vramscope.experiments.training_vs_inference.held import judge_chain, judge_discards, judge_two_maps
from vramscope.experiments.training_vs_inference.models import MODELS as BUILDERS
from vramscope.experiments.training_vs_inference.models import chain_pair_bytes
from vramscope.experiments.training_vs_inference.retained import (
    judge_batch,
    judge_checkpointing,
    judge_depth,
    judge_dominance,
    judge_no_grad,
)
from vramscope.experiments.training_vs_inference.sizes import mlp_batches, sizes_of
from vramscope.experiments.training_vs_inference.stored import (
    judge_explanation,
    judge_gradients,
    judge_learning_rates,
    judge_optimizer_peak,
    judge_state,
)
from vramscope.findings import Verdict

NAME = "training-vs-inference"
MODELS = list(BUILDERS)


@pytest.mark.parametrize(
    "rule",
    [
        judge_gradients,
        judge_state,
        judge_optimizer_peak,
        judge_batch,
        judge_dominance,
        judge_depth,
        judge_no_grad,
        judge_discards,
        judge_chain,
    ],
)
def test_the_claim_holds(rule: Callable[[Any], Any], measured: Callable[[str], Any]) -> None:
    assert rule(measured(NAME)).verdict is Verdict.HOLDS


def test_batches_of_the_mlp_lie_on_both_sides_of_the_crossing() -> None:
    # activations outgrow the weights' four copies at 4 * 512 = 2048 samples
    assert mlp_batches(512, 4) == (16, 128, 1024, 8192)


def test_the_chains_largest_pair_is_known_beforehand() -> None:
    # 128 samples, the widest ReLU reads and writes 2 * 64 features of 4 bytes
    assert chain_pair_bytes(sizes_of(Settings(quick=True))) == 128 * 2 * 128 * 4


def test_what_is_retained_at_the_peak_is_part_of_it(measured: Callable[[str], Any]) -> None:
    trained = [pair.training for pair in measured(NAME).pairs.values()]
    assert all(p.retained_bytes_at_peak <= p.summary.peak.by_category["activations"] for p in trained)


def test_what_is_retained_at_the_peak_was_retained(measured: Callable[[str], Any]) -> None:
    trained = [pair.training for pair in measured(NAME).pairs.values()]
    assert all(0 <= p.retained_bytes_at_peak <= p.retained_bytes for p in trained)


def test_learning_rates_are_not_stored_per_weight(measured: Callable[[str], Any]) -> None:
    assert judge_learning_rates(measured(NAME)).verdict is Verdict.FAILS


def test_gradients_and_learning_rates_do_not_explain_the_difference(measured: Callable[[str], Any]) -> None:
    checks = judge_explanation(measured(NAME)).checks
    assert not any(passed for name, passed in checks.items() if name.endswith(("batch 16", "batch 1024")))


@pytest.mark.parametrize("model", MODELS)
def test_retained_activations_grow_in_a_straight_line(model: str, measured: Callable[[str], Any]) -> None:
    assert judge_batch(measured(NAME)).evidence[model]["fit"]["r_squared"] > 0.999


def test_each_block_of_the_mlp_retains_one_map_more(measured: Callable[[str], Any]) -> None:
    # the linear layer's input is the ReLU's output of the block before: one float32 map of 128 x 64
    assert round(judge_depth(measured(NAME)).evidence["MLP"]["fit"]["slope"]) == 128 * 64 * 4


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
    checks = judge_checkpointing(measured(NAME)).checks
    assert checks["CNN: less retained"] and checks["transformer: less retained"]


def test_checkpointing_the_mlp_keeps_the_random_states_besides(measured: Callable[[str], Any]) -> None:
    evidence = judge_checkpointing(measured(NAME)).evidence["MLP"]
    # four blocks, each with the generator's state of 5,056 bytes (torch.get_rng_state) beside the map it had kept
    # anyway; of the last block its output is the head's input, retained either way
    assert evidence["checkpointed_retained_bytes"] - evidence["retained_bytes"] == 4 * 5056


def test_figures_that_decide_are_given_in_bytes(measured: Callable[[str], Any]) -> None:
    claim = judge_checkpointing(measured(NAME))
    assert f"retains {claim.evidence['MLP']['checkpointed_retained_bytes']:,} B" in claim.measured


@pytest.mark.parametrize("model", MODELS)
def test_a_layer_that_needs_less_is_no_exception(model: str, measured: Callable[[str], Any]) -> None:
    exceptions: Any = judge_two_maps(measured(NAME)).evidence[model]
    assert all(exception["excess_bytes"] > 0 for exception in exceptions["exceptions"])


def test_the_rule_of_two_maps_says_what_breaks_it(measured: Callable[[str], Any]) -> None:
    words = judge_two_maps(measured(NAME)).measured
    assert "blocks.1.1 (of it outside the pair: 32.0 KiB from aten::relu in blocks.0.1)" in words  # 128 x 64 float32


@pytest.mark.parametrize("model", MODELS)
def test_the_sources_share_is_given_at_both_ends(model: str, measured: Callable[[str], Any]) -> None:
    claim = judge_explanation(measured(NAME))
    parts = [part for name, part in claim.evidence.items() if name.startswith(model)]
    smallest, largest = (f"{part['explained_bytes'] / part['extra_bytes']:.1%}" for part in (parts[0], parts[-1]))
    assert f"{model} {largest} to {smallest}" in claim.measured
