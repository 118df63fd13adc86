"""Linear layers collapse, others do not; memory does not collapse."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vramscope.experiments.frame import Settings
from vramscope.experiments.linear_collapse.claims import judge_collapse, judge_control, judge_memory
from vramscope.experiments.linear_collapse.measurement import LINEAR
from vramscope.experiments.linear_collapse.networks import best_layer_misfit, build_network, collapse, sizes_of
from vramscope.findings import Verdict


def test_two_layers_collapse_to_their_product() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    for layer, (weight, bias) in zip(network, [(2.0, 3.0), (5.0, 7.0)], strict=True):
        layer.weight.data.fill_(weight)
        layer.bias.data.fill_(bias)
    weight, bias = collapse(network)
    assert (weight.item(), bias.item()) == (10.0, 22.0)  # 5 (2 x + 3) + 7


def test_weights_keep_lengths() -> None:
    torch.manual_seed(0)
    weight = build_network(8, 1)[0].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(8, dtype=torch.float64))


def test_thirty_two_layers_equal_one_to_ten_digits(measured: Callable[[str], Any]) -> None:
    assert measured("linear-collapse").collapse_errors[32] <= 1e-10


def test_networks_with_activations_do_not_collapse(measured: Callable[[str], Any]) -> None:
    found = measured("linear-collapse")
    assert min(min(found.least_misfit(name).values()) for name in ("ReLU", "tanh")) > 0.01


def test_the_fit_finds_the_layer_where_there_is_one() -> None:
    assert best_layer_misfit(sizes_of(Settings(quick=True)), 8, 0, None).most <= 1e-10


def test_the_control_holds(measured: Callable[[str], Any]) -> None:
    assert judge_control(measured("linear-collapse")).verdict is Verdict.HOLDS


def test_a_network_that_collapses_would_not_pass_the_control(measured: Callable[[str], Any]) -> None:
    found = measured("linear-collapse")
    linear = found.misfits[LINEAR]
    planted = dataclasses.replace(found, misfits={LINEAR: linear, "ReLU": linear, "tanh": linear})
    passed = [name for name, check in judge_control(planted).checks.items() if check]
    assert passed and all(name.startswith(LINEAR) for name in passed)


def test_the_identity_holds(measured: Callable[[str], Any]) -> None:
    assert judge_collapse(measured("linear-collapse")).verdict is Verdict.HOLDS


def test_each_layer_retains_one_feature_map(measured: Callable[[str], Any]) -> None:
    evidence = judge_memory(measured("linear-collapse")).evidence
    assert round(evidence["fit"]["slope"]) == 32 * 16 * 8  # batch, width, bytes of a float64
