"""What every experiment promises: exact sums, honest progress, and verdicts that follow the evidence."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vramscope.experiments import (
    gradient_descent,
    linear_collapse,
    overfitting,
    tanh_vs_sigmoid,
    training_vs_inference,
    vanishing_gradients,
)
from vramscope.experiments.catalogue import EXPERIMENTS
from vramscope.experiments.frame import Settings
from vramscope.findings import Claim, Verdict
from vramscope.views.experiments.document import experiments_document

QUICK = Settings(quick=True)
ALL = list(EXPERIMENTS)

# One false statement per experiment, each through the rule that judges the true one.
FALSE_CLAIMS: dict[str, Callable[[Any], Claim]] = {
    # float64 has about 16 digits: no product of matrices is exact to 30
    "linear-collapse": lambda measured: linear_collapse.judge_collapse(measured, tolerance=1e-30),
    # the plus sign goes up
    "gradient-descent": lambda measured: gradient_descent.judge_minus(measured, sign=gradient_descent.PLUS),
    # ReLU's derivative is 0 or 1, not at most 1/100
    "vanishing-gradients": lambda measured: vanishing_gradients.judge_bound(measured, 0.01, "ReLU"),
    "tanh-vs-sigmoid": lambda measured: tanh_vs_sigmoid.judge_speed(measured, faster="sigmoid", slower="tanh"),
    # the baseline is no remedy for itself
    "overfitting": lambda measured: overfitting.judge_remedy(measured, overfitting.BASELINE, "Nothing cures it"),
    "training-vs-inference": lambda measured: training_vs_inference.judge_gradients(measured, copies=2),
}


@pytest.mark.parametrize("name", ALL)
def test_a_planted_false_claim_fails(name: str, measured: Callable[[str], Any]) -> None:
    experiment = EXPERIMENTS[name]
    planted = dataclasses.replace(experiment, rules=(*experiment.rules, FALSE_CLAIMS[name]))
    assert planted.judge(measured(name)).claims[-1].verdict is Verdict.FAILS


@pytest.mark.parametrize("name", ALL)
def test_sums_are_exact_in_every_profiled_pass(name: str, measured: Callable[[str], Any]) -> None:
    inexact = {
        key: summary.allocator.max_disagreement_bytes
        for key, summary in measured(name).passes.items()
        if summary.allocator.max_disagreement_bytes
        or sum(summary.peak.by_category.values()) != summary.allocator.peak_bytes
    }
    assert inexact == {}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_unattributed_at_a_peak(name: str, measured: Callable[[str], Any]) -> None:
    found = {key: s.peak.by_category["unattributed"] for key, s in measured(name).passes.items()}
    assert set(found.values()) == {0}


@pytest.mark.parametrize("name", ALL)
def test_every_panel_says_what_its_axes_are(name: str, measured: Callable[[str], Any]) -> None:
    panels = EXPERIMENTS[name].draw(measured(name)).panels
    assert all(panel.title and panel.x_label and panel.y_label for panel in panels)


@pytest.mark.parametrize("name", ["linear-collapse", "vanishing-gradients"])
def test_two_runs_with_one_seed_say_the_same(name: str) -> None:
    first, second = (_document_without_times(name) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["linear-collapse", "gradient-descent"])
def test_the_progress_bar_is_as_long_as_the_run(name: str) -> None:
    announced: list[str] = []
    EXPERIMENTS[name].measure(QUICK, announced.append)
    assert len(announced) == EXPERIMENTS[name].notches(QUICK)


def _document_without_times(name: str) -> Any:
    finding = EXPERIMENTS[name].run(QUICK, lambda _: None)
    document = json.loads(json.dumps(experiments_document([finding], {}, {})))
    return list(_leaves_without_times(document))


def _leaves_without_times(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "times":
                yield from _leaves_without_times(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves_without_times(item, (*path, str(index)))
    else:
        yield path, value
