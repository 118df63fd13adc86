"""The results that are kept: what they show can be told apart, and what is written of them is what they say."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from vramscope.experiments.catalogue import EXPERIMENTS
from vramscope.views.experiments.summary import summary_markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
DOCUMENTS = {
    file.parent.name: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(RESULTS.glob("*/experiments.json"))
}


def experiments() -> list[Any]:
    return [experiment for document in DOCUMENTS.values() for experiment in document["experiments"]]


def test_every_experiment_has_results() -> None:
    assert [experiment["name"] for experiment in DOCUMENTS["cpu"]["experiments"]] == list(EXPERIMENTS)


def test_every_claim_that_is_made_today_is_in_the_results() -> None:
    assert {e["name"]: len(e["claims"]) for e in DOCUMENTS["cpu"]["experiments"]} == {
        name: len(experiment.rules) for name, experiment in EXPERIMENTS.items()
    }


def test_the_text_is_what_the_summary_makes_of_the_results() -> None:
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == summary_markdown(DOCUMENTS)


def test_the_sums_of_every_kept_pass_are_exact() -> None:
    passes = [found for experiment in experiments() for found in experiment["passes"].values()]
    assert passes and all(
        sum(found["peak"]["by_category"].values()) == found["peak"]["bytes"] == found["allocator"]["peak_bytes"]
        for found in passes
    )


def test_every_headline_fits_on_a_line() -> None:
    assert not [e["name"] for e in experiments() if len(e["picture"]["headline"]) > 78]


@pytest.mark.parametrize("page", ["README.md", "docs/experiments-gallery.md"])
def test_a_page_shows_every_experiments_picture(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(f"results/cpu/{name}.png" in text for name in EXPERIMENTS)


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment["name"])
def test_no_two_curves_of_a_panel_coincide(experiment: Any) -> None:
    lines = [panel for panel in experiment["picture"]["panels"] if panel["kind"] == "lines"]
    pairs = [(panel, *pair) for panel in lines for pair in itertools.combinations(panel["series"], 2)]
    assert not [(a["label"], b["label"]) for panel, a, b in pairs if _coincide(panel, a, b)]


def _coincide(panel: Any, first: Any, second: Any) -> bool:
    """Whether curves are closer than 1 % of the axis to each other at nine in ten of the places that they share."""
    heights = [_drawn(panel, y) for series in panel["series"] for y in series["y"]]
    apart = 0.01 * (max(heights) - min(heights))
    others = dict(zip(second["x"], second["y"], strict=True))
    shared = [(y, others[x]) for x, y in zip(first["x"], first["y"], strict=True) if x in others]
    near = [abs(_drawn(panel, a) - _drawn(panel, b)) < apart for a, b in shared]
    return sum(near) > 0.9 * len(near)


def _drawn(panel: Any, height: float) -> float:
    return math.log10(height) if panel["log_y"] else height
