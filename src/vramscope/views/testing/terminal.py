"""The table of the heaviest tests, as plain lines for pytest's own terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from vramscope.names import visible
from vramscope.units import format_size
from vramscope.views.verdicts import percent_words

Results = Mapping[str, Mapping[str, Any]]
"""By a test's name: ``outcome``, ``device``, ``peak_bytes``, ``leaked_bytes``, ``by_category``, ``problems`` and
more."""
Earlier = Mapping[str, tuple[str, int]]
"""By a test's name: the device that a baseline is of, and the peak there."""


def table_lines(results: Results, top: int, before: Earlier | None = None) -> Iterator[str]:
    """The heaviest tests, the heaviest first.

    Args:
        results: of all tests.
        top: how many to show.
        before: what the baseline says, where there is one.
    """
    ranked = sorted(results.items(), key=lambda item: (-item[1]["peak_bytes"], item[0]))
    if not ranked:
        yield "no test was measured"
        return
    rows = [_row(name, facts, before) for name, facts in ranked[:top]]
    heads = ["peak", "left after", *(["since baseline"] if before is not None else []), "most of it", "test"]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    figures = len(heads) - 2
    for row in [heads, *rows]:
        cells = [c.rjust(w) if n < figures else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()
    if ranked[top:]:
        yield f"{len(ranked) - top} more used at most {format_size(ranked[top][1]['peak_bytes'])}"


def _row(name: str, facts: Mapping[str, Any], before: Earlier | None) -> list[str]:
    since = [] if before is None else [_since(facts, before.get(name))]
    outcome = "" if facts["outcome"] == "passed" else f" ({facts['outcome']})"
    sizes = (format_size(facts["peak_bytes"]), format_size(facts["leaked_bytes"]))
    return [*sizes, *since, largest_part(facts), f"{visible(name)}{outcome}"]


def _since(facts: Mapping[str, Any], earlier: tuple[str, int] | None) -> str:
    if earlier is None:
        return "new test"
    device, peak_bytes = earlier
    if device != facts["device"]:
        return f"was on {device}"
    return percent_words(peak_bytes, facts["peak_bytes"]) or "same"


def largest_part(facts: Mapping[str, Any]) -> str:
    """The category that takes most of a test's peak."""
    category, size = max(facts["by_category"].items(), key=lambda item: item[1], default=("", 0))
    return f"{category.replace('_', ' ')} {format_size(size)}" if size else ""
