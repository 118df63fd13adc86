"""What every experiment promises: exact sums, honest progress, and verdicts that follow the evidence."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from vramscope.experiments.catalogue import EXPERIMENTS
from vramscope.experiments.frame import Settings
from vramscope.experiments.gradient_descent.descent import PLUS
from vramscope.experiments.gradient_descent.signs import judge_minus
from vramscope.experiments.linear_collapse.claims import judge_collapse
from vramscope.experiments.overfitting.claims import judge_remedy
from vramscope.experiments.overfitting.recipes import BASELINE
from vramscope.experiments.tanh_vs_sigmoid.claims_on_learning import judge_speed
from vramscope.experiments.training_vs_inference.stored import judge_gradients
from vramscope.experiments.vanishing_gradients.claims import judge_bound
from vramscope.findings import Claim, Verdict
from vramscope.views.experiments.document import experiments_document

QUICK = Settings(quick=True)
ALL = list(EXPERIMENTS)

# One false statement per experiment, each through the rule that judges the true one.
FALSE_CLAIMS: dict[str, Callable[[Any], Claim]] = {
    # float64 has about 16 digits: no product of matrices is exact to 30
    "linear-collapse": lambda measured: judge_collapse(measured, tolerance=1e-30),
    # the plus sign goes up
    "gradient-descent": lambda measured: judge_minus(measured, sign=PLUS),
    # ReLU's derivative is 0 or 1, not at most 1/100
    "vanishing-gradients": lambda measured: judge_bound(measured, 0.01, "ReLU"),
    "tanh-vs-sigmoid": lambda measured: judge_speed(measured, faster="sigmoid", slower="tanh"),
    # the baseline is no remedy for itself
    "overfitting": lambda measured: judge_remedy(measured, BASELINE, "Nothing cures it"),
    "training-vs-inference": lambda measured: judge_gradients(measured, copies=2),
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


@pytest.fixture(scope="module")
def second_run(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """All experiments once more, by the command, in a process of their own."""
    file = tmp_path_factory.mktemp("again") / "experiments.json"
    command = [sys.executable, "-m", "vramscope", "experiments", "--quick", "--device", "cpu", "--json", str(file)]
    subprocess.run([*command, "--quiet"], check=True)
    document = json.loads(file.read_text(encoding="utf-8"))
    return {experiment["name"]: experiment for experiment in document["experiments"]}


@pytest.mark.parametrize("name", ALL)
def test_two_runs_with_one_seed_say_the_same(
    name: str, measured: Callable[[str], Any], second_run: Mapping[str, Any]
) -> None:
    finding = EXPERIMENTS[name].judge(measured(name))
    (first,) = json.loads(json.dumps(experiments_document([finding], {}, {})))["experiments"]
    assert list(_leaves_without_times(first)) == list(_leaves_without_times(second_run[name]))


@pytest.mark.parametrize("name", ALL)
def test_the_progress_bar_is_as_long_as_the_run(name: str, run: Callable[[str], tuple[Any, list[str]]]) -> None:
    assert len(run(name)[1]) == EXPERIMENTS[name].notches(QUICK)


def _leaves_without_times(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number and word by its place; the order of dictionaries counts."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "timings":
                yield from _leaves_without_times(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves_without_times(item, (*path, str(index)))
    else:
        yield path, value
