"""Verdicts in words, the same wherever they are shown."""

from vramscope.ledger.diff import Change, Verdict
from vramscope.ledger.thresholds import Figure, Threshold
from vramscope.names import visible
from vramscope.units import format_size


def verdict_words(verdict: Verdict) -> str:
    """What a threshold found, in one line."""
    name = figure_words(verdict.threshold)
    limit = f"+{verdict.threshold.growth} allows {exact(verdict.threshold.allowed_bytes(verdict.before_bytes))}"
    if verdict.before_bytes == verdict.after_bytes:
        return f"{verdict.pass_name}: {name} {exact(verdict.after_bytes)} as before"
    moved = f"{exact(verdict.before_bytes)} to {exact(verdict.after_bytes)}"
    if not verdict.is_regression:
        return f"{verdict.pass_name}: {name} {moved}; {limit}"
    return f"{verdict.pass_name}: {name} grew from {moved}; {limit}{_where_words(verdict)}"


def _where_words(verdict: Verdict) -> str:
    """Which module grew most, and whether that is more than half of it all."""
    if verdict.module is None:
        return ""
    is_most = 2 * verdict.module.growth_bytes > verdict.after_bytes - verdict.before_bytes
    return f"; {'most' if is_most else 'the largest part'} of it in {module_words(verdict.module)}"


def figure_words(threshold: Threshold) -> str:
    """What a threshold watches; but for the peak, no table shows it."""
    if threshold.figure is Figure.MODULE:
        return f"{_named_module(threshold.name)} with all below it (at its own fullest moment)"
    name = threshold.name.replace("_", " ")
    return f"{name} (at the category's own fullest moment)" if threshold.figure is Figure.CATEGORY else name


def module_words(change: Change) -> str:
    """A module and by how much it grew."""
    return f"{_named_module(change.name)} (+{format_size(change.growth_bytes)})"


def _named_module(path: str) -> str:
    return f"module {visible(path)}" if path else "the model itself"


def path_words(path: str) -> str:
    """A module's path; the root has a name as well."""
    return visible(path) if path else "(the model itself)"


def percent_words(before_bytes: int, after_bytes: int) -> str:
    """A growth in percent, or what happened where there is no percentage."""
    if before_bytes == after_bytes:
        return ""
    if not before_bytes:
        return "new"
    if not after_bytes:
        return "gone"
    percent = 100 * (after_bytes - before_bytes) / before_bytes
    return f"{percent:+,.1f}%" if abs(percent) >= 0.05 else f"{'+' if percent > 0 else '-'}<0.1%"


def exact(size_bytes: int) -> str:
    """A size for people and, where that rounds, for machines."""
    return f"{size_bytes:,} B" if size_bytes < 1024 else f"{format_size(size_bytes)} ({size_bytes:,} B)"
