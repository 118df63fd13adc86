"""Figures of many tests as one JSON file: what `--vramscope-save` writes and `--vramscope-compare` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vramscope.errors import RecordingError
from vramscope.testing.figures import TestFigures
from vramscope.views.atomic import atomic_path
from vramscope.views.json import SCHEMA, to_text

Baseline = Mapping[str, TestFigures]
"""Figures by a test's name."""
TOOL = "pytest"


def results_document(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document of a run: for each test its figures' JSON, and its outcome."""
    return {"schema": SCHEMA, "tool": TOOL, "tests": [{"test": name, **facts} for name, facts in results.items()]}


def write_results(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a run's figures, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(to_text(results_document(results)), encoding="utf-8")


def read_baseline(path: Path) -> Baseline:
    """The figures that a run saved.

    Raises:
        RecordingError: the file is missing, damaged, not ours, or without any test: nothing could fail against it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot read the baseline: {error.strerror}; make it with --vramscope-save"
        ) from None
    except (ValueError, RecursionError):
        raise RecordingError(f"{path}: the baseline is damaged: it is no JSON; make it with --vramscope-save") from None
    try:
        return _figures(document)
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}; make it with --vramscope-save") from None


def _figures(document: Any) -> Baseline:
    is_ours = isinstance(document, dict) and (document.get("schema"), document.get("tool")) == (SCHEMA, TOOL)
    tests = document.get("tests") if is_ours else None
    if not isinstance(tests, list):
        raise RecordingError("it is no baseline of vramscope's")
    if not all(isinstance(test, dict) and isinstance(test.get("test"), str) for test in tests):
        raise RecordingError("the baseline is damaged")
    if not tests:
        raise RecordingError("the baseline is empty: no test passed in the run that saved it")
    return {test["test"]: TestFigures.from_json(test) for test in tests}
