"""The CSV view of a script's run: one tidy table over all ranks, a figure in each row."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from vramscope.ledger.growth import Growth
from vramscope.ledger.run import RunSummary
from vramscope.ledger.summary import PassSummary
from vramscope.views.csv import Row, cell, site_rows, summary_rows


def run_csv(runs: Mapping[int, RunSummary]) -> str:
    """Every figure of every rank's passes, steps and growth; modules' own bytes, their children's excluded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("rank", "pass", *Row._fields[1:]))
    for rank, run in sorted(runs.items()):
        for row in _rows(run):
            writer.writerow([rank, *(cell(value) if isinstance(value, str) else value for value in row)])
    return stream.getvalue()


def _rows(run: RunSummary) -> Iterator[Row]:
    for name, summary in run.passes.items():
        yield from summary_rows(name, summary)
        yield from _module_rows(name, summary)
        yield from site_rows(name, summary)
    for step in run.steps:
        for figure in ("peak_bytes", "retained_growth_bytes"):
            yield Row(step.kind, "step", str(step.index), "", figure, getattr(step, figure))
    for grown in run.growth:
        yield Row("", "growth", _origin(grown), grown.origin.category, "bytes_per_step", grown.bytes_per_step)
    for counted in run.counted:
        for figure in ("first_bytes", "last_bytes", "highest_bytes"):
            steps = f"{counted.first_index} to {counted.last_index}"
            yield Row(counted.kind, "counted", steps, "", figure, getattr(counted, figure))
    for process, size in run.children.items():
        yield Row("", "process", process, "", "rss_peak_bytes", size)


def _module_rows(name: str, summary: PassSummary) -> Iterator[Row]:
    for module in summary.modules:
        for figure, value in asdict(module).items():
            if figure not in ("path", "type"):
                yield Row(name, "module", module.path, module.type, figure, value)


def _origin(grown: Growth) -> str:
    origin = grown.origin
    place = f"{origin.file}:{origin.line}" if origin.line else ""
    return " ".join(word for word in (place, origin.module, origin.operator) if word)
