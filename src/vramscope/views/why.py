"""One sentence that answers why training needs more memory than inference."""

from collections.abc import Mapping
from typing import Any

from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ledger import Composition
from vramscope.ledger.summary import PassSummary
from vramscope.names import visible
from vramscope.recording.recording import PhaseName
from vramscope.views.text import Scale, category_label

_NEGLIGIBLE = 0.005
"""Differences below this share of the largest one are told together, and below it together not at all."""


def explain(comparison: Comparison, scale: Scale) -> str | None:
    """Why training's peak differs from inference's, in terms of the categories at both peaks.

    Returns:
        A sentence whose terms, with "other", add up to the difference of the two peaks; None without the two passes.
    """
    ratio = comparison.peak_ratio
    if ratio is None:
        return None
    inference, training = comparison.passes["inference"], comparison.passes["training"]
    terms = _terms(inference, training, comparison.workload, scale)
    beginning = (
        f"Training needs {ratio:.1f}x the memory of inference "
        f"({scale.text(training.peak.bytes)} against {scale.text(inference.peak.bytes)})"
    )
    return f"{beginning}: {_enumerate(terms)}." if terms else f"{beginning}."


def _terms(inference: PassSummary, training: PassSummary, workload: Mapping[str, Any], scale: Scale) -> list[str]:
    changes = _changes(inference.peak.by_category, training.peak.by_category)
    least = _NEGLIGIBLE * max((abs(change) for change in changes.values()), default=0)
    told = {category: change for category, change in changes.items() if abs(change) >= least and change}
    rest = sum(change for category, change in changes.items() if category not in told)
    names = _names(training, workload)
    terms = [f"{scale.change(change)} {names.get(c, category_label(c))}" for c, change in told.items()]
    return [*terms, f"{scale.change(rest)} other"] if abs(rest) >= max(least, 1) else terms


def _changes(before: Composition, after: Composition) -> Composition:
    """Bytes that each category takes more, the largest growth first."""
    changes = {category: after[category] - before[category] for category in CATEGORIES}
    return dict(sorted(changes.items(), key=lambda item: -item[1]))


def _names(training: PassSummary, workload: Mapping[str, Any]) -> dict[Category, str]:
    names = {}
    if workload.get("optimizer"):
        names[Category.OPTIMIZER_STATE] = f"{visible(str(workload['optimizer']))} state"
    if training.peak.phase in (PhaseName.FORWARD, PhaseName.BACKWARD) and training.activations.retained_bytes:
        names[Category.ACTIVATIONS] = "activations kept for backward"
    return names


def _enumerate(terms: list[str]) -> str:
    return terms[0] if len(terms) == 1 else f"{', '.join(terms[:-1])} and {terms[-1]}"
