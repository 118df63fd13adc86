"""The CSV view."""

import csv
import io

from views import samples
from views.goldens import assert_golden
from vramscope.ledger.comparison import Comparison
from vramscope.names import visible
from vramscope.views.csv import cell, comparison_csv


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


def test_hostile_names_stay_in_their_cells() -> None:
    rows = rows_of(samples.hostile())
    assert {len(row) for row in rows} == {6}
    names = {row["name"] for row in rows if row["table"] == "module"}
    assert {cell(name) for name in samples.HOSTILE} <= names
    assert not any(name.startswith(("=", "+", "-", "@")) for name in names)
    assert visible("a\u202eb") == "a\\u202eb"
