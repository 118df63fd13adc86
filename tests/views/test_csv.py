"""The CSV view."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from views import samples
from views.goldens import assert_golden
from vramscope.ledger.comparison import Comparison
from vramscope.names import visible
from vramscope.views.csv import cell, comparison_csv
from vramscope.views.json import comparison_document


def rows_of(comparison: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(comparison_csv(comparison))))


def test_golden() -> None:
    assert_golden("report.csv", comparison_csv(samples.comparison()))


def test_every_table_sums_to_the_peak() -> None:
    comparison = samples.comparison()
    for name, summary in comparison.passes.items():
        for table in ("category", "operator", "site"):
            found = [row for row in rows_of(comparison) if (row["pass"], row["table"]) == (name, table)]
            assert sum(int(r["value"]) for r in found if r["figure"] == "bytes_at_peak") == summary.peak.bytes


def test_every_figure_of_the_json_view_is_there() -> None:
    comparison = samples.comparison()
    rows = rows_of(comparison)
    for name, document in comparison_document(comparison, "report")["passes"].items():
        values = {(row["figure"], int(row["value"])) for row in rows if row["pass"] == name}
        figures = dict(figures_in({key: part for key, part in document.items() if key != "sites"}))
        assert len(figures) > 40
        missing = {key: size for key, size in figures.items() if key[-1] in FIGURES and (key[-1], size) not in values}
        assert not missing
        sizes = {value for _, value in values}
        assert set(document["optimizer_state"].values()) <= sizes
        assert set(document["cold"]["by_category"].values()) <= sizes


FIGURES = {
    *("events", "max_disagreement_bytes", "retained_bytes", "held_by_autograd_bytes", "held_by_python_bytes"),
    *("transient_peak_bytes", "peak_bytes", "steady_steps", "rss_peak_bytes", "native_remainder_bytes"),
    *("reserved_peak_bytes", "process_used_bytes", "total_bytes", "outside_allocator_bytes", "parameter_bytes"),
}


def figures_in(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """The numbers of a document, by where they stand."""
    if isinstance(part, int) and not isinstance(part, bool):
        yield path, part
    pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in pairs:
        yield from figures_in(inner, (*path, str(key)))


def test_hostile_names_stay_in_their_cells() -> None:
    rows = rows_of(samples.hostile())
    assert {len(row) for row in rows} == {6}
    names = {row["name"] for row in rows if row["table"] == "module"}
    assert {cell(name) for name in samples.HOSTILE} <= names
    assert not any(name.startswith(("=", "+", "-", "@")) for name in names)
    assert visible("a\u202eb") == "a\\u202eb"
