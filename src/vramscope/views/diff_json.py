"""The JSON view of a diff: ``regressions`` and ``changes``, every size an integer of bytes."""

from dataclasses import asdict
from typing import Any

from vramscope.ledger.diff import Diff, Kind, Verdict
from vramscope.views.json import SCHEMA

_ALWAYS = (Kind.PEAK, Kind.CATEGORY)
"""Kinds that are there even where nothing changed: the categories sum to the peak."""


def diff_document(diff: Diff) -> dict[str, Any]:
    """The document of a diff; figures that did not change are left out, save the peak and its categories."""
    changes = [
        {"pass": part.name, **asdict(change), "course": change.course}
        for part in diff.passes
        for change in part.changes
        if change.growth_bytes or change.kind in _ALWAYS
    ]
    return {
        "schema": SCHEMA,
        "tool": "diff",
        "regressions": [_verdict(verdict) for verdict in diff.regressions],
        "changes": changes,
        "differences": [{"name": name, "before": old, "after": new} for name, old, new in diff.differences],
        "warnings": list(diff.warnings),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "pass": verdict.pass_name,
        "kind": verdict.threshold.figure,
        "name": verdict.threshold.name,
        "threshold": verdict.threshold.text,
        "before_bytes": verdict.before_bytes,
        "after_bytes": verdict.after_bytes,
        "allowed_bytes": verdict.threshold.allowed_bytes(verdict.before_bytes),
        "module": verdict.module.name if verdict.module is not None else None,
    }
