"""Baselines: what a run saves is what the next one is compared with, or it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from vramscope.errors import RecordingError
from vramscope.testing.baseline import read_baseline, results_document, write_results
from vramscope.testing.figures import TestFigures

NAME = "test_net.py::test_forward"
FIGURES = TestFigures(
    device="cpu",
    peak_bytes=10,
    leaked_bytes=3,
    by_category={"activations": 10, "gradients": 0},
    category_peaks={"activations": 10, "gradients": 0},
    modules={"a": 10},
    module_peaks={"": 10, "a": 10},
    leaked_by_category={"activations": 3},
)
NOTHING = TestFigures("cuda:1", 0, 0, {}, {}, {}, {}, {})


def document(**changes: Any) -> dict[str, Any]:
    """What a run of one test saves, with other facts of that test."""
    return results_document({NAME: {**FIGURES.to_json(), "outcome": "passed", **changes}})


def refusal(folder: Path, saved: Any) -> str:
    path = folder / "baseline.json"
    path.write_text(saved if isinstance(saved, str) else json.dumps(saved))
    with pytest.raises(RecordingError) as caught:
        read_baseline(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; make it with --vramscope-save")
    return message


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_results({NAME: {**FIGURES.to_json(), "outcome": "passed"}, "test_nothing": NOTHING.to_json()}, path)
    assert read_baseline(path) == {NAME: FIGURES, "test_nothing": NOTHING}


@pytest.mark.parametrize(
    "changes",
    [
        {"test": 7},
        {"device": None},
        {"peak_bytes": -1},
        {"leaked_bytes": True},
        {"leaked_bytes": 1.5},
        {"by_category": ["activations"]},
        {"modules": {"a": -1}},
        {"module_peaks": {"a": "10"}},
        {"leaked_by_category": None},
    ],
    ids=str,
)
def test_figures_that_no_run_saves_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "damaged" in refusal(tmp_path, document(**changes))


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ("{", "it is no JSON"),
        ([], "it is no baseline of vramscope's"),
        ({**document(), "schema": "vramscope/99"}, "it is no baseline of vramscope's"),
        ({**document(), "tool": "compare"}, "it is no baseline of vramscope's"),
        ({**document(), "tests": {}}, "it is no baseline of vramscope's"),
        ({**document(), "tests": [7]}, "the baseline is damaged"),
        ({**document(), "tests": []}, "the baseline is empty: no test passed in the run that saved it"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, saved: Any, words: str) -> None:
    assert words in refusal(tmp_path, saved)


def test_a_baseline_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot read the baseline: No such file or directory; make it with"):
        read_baseline(tmp_path / "none.json")


def test_a_name_that_is_no_unicode_is_read_as_it_was(tmp_path: Path) -> None:
    write_results({"test[\udcff]": NOTHING.to_json()}, tmp_path / "baseline.json")
    assert read_baseline(tmp_path / "baseline.json") == {"test[\udcff]": NOTHING}
