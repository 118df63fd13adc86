"""The CSV view: one tidy table, a figure in each row, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.module_tree import module_tree
from vramscope.ledger.operators import operator_rows
from vramscope.ledger.summary import DeviceSummary, Level, PassSummary
from vramscope.names import visible

EXTENSION = "csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to a spreadsheet."""


class Row(NamedTuple):
    """``name`` is what the figure is of within its table; ``detail`` a module's type, or a line's category."""

    pass_name: str
    table: str
    name: str
    detail: str
    figure: str
    value: int


def comparison_csv(comparison: Comparison) -> str:
    """Every figure of every pass; the rows of one table and figure sum to what the JSON view says."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("pass", *Row._fields[1:]))
    for name, summary in comparison.passes.items():
        ledger = comparison.ledgers[name]
        for row in (*summary_rows(name, summary), *_tables(name, summary, ledger)):
            writer.writerow([cell(value) if isinstance(value, str) else value for value in row])
    return stream.getvalue()


def cell(text: str) -> str:
    """A text that shows as it is, and that no spreadsheet runs."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def summary_rows(name: str, summary: PassSummary) -> Iterator[Row]:
    """The figures of a pass as a whole, all that the JSON view has of it but modules and lines."""
    yield Row(name, "peak", "", summary.peak.phase or "", "bytes", summary.peak.bytes)
    yield Row(name, "peak", "", "allocator", "bytes", summary.allocator.peak_bytes)
    for category, size in summary.peak.by_category.items():
        yield Row(name, "category", category, "", "bytes_at_peak", size)
        yield Row(
            name, "category", category, "", "requested_bytes_at_peak", summary.peak.requested_by_category[category]
        )
    for phase, level in summary.phases.items():
        yield from _level(name, "phase", phase, level)
    if summary.cold is not None:
        yield from _level(name, "cold", "", summary.cold)
    yield from _figures(name, "allocator", "", vars(summary.allocator))
    yield from _figures(name, "activations", "", vars(summary.activations))
    yield Row(name, "gradients", "", "", "peak_bytes", summary.gradients_peak_bytes)
    for state, size in summary.optimizer_state.items():
        yield Row(name, "optimizer_state", state, "", "bytes_at_end", size)
    if summary.host is not None:
        yield from _figures(name, "host", "", vars(summary.host))
    for device in summary.devices:
        yield from _device(name, device)
    yield Row(name, "steps", "", "", "steady_steps", summary.steady_steps)


def _level(name: str, table: str, of: str, level: Level) -> Iterator[Row]:
    yield Row(name, table, of, "", "peak_bytes", level.peak_bytes)
    for category, size in level.by_category.items():
        yield Row(name, table, of, category, "bytes_at_peak", size)


def _device(name: str, device: DeviceSummary) -> Iterator[Row]:
    for category, size in device.peak.by_category.items():
        yield Row(name, "device", device.device, category, "bytes_at_peak", size)
    own = {**vars(device), "allocated_peak_bytes": device.allocator.peak_bytes}
    own["outside_allocator_bytes"] = device.outside_allocator_bytes
    yield from _figures(name, "device", device.device, own)
    for table, part in (("reconciliation", device.reconciliation), ("fragmentation", device.fragments)):
        if part is not None:
            yield from _figures(name, table, device.device, vars(part))


def _figures(name: str, table: str, of: str, figures: Mapping[str, Any]) -> Iterator[Row]:
    """Those that are numbers; what was not measured has no row."""
    for figure, value in figures.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield Row(name, table, of, "", figure, value)


def _tables(name: str, summary: PassSummary, ledger: Ledger) -> Iterator[Row]:
    for node in module_tree(summary):
        for figure, size in vars(node.own).items():
            yield Row(name, "module", node.path, node.type, figure, size)
        yield Row(name, "module", node.path, node.type, "transient_peak_bytes", node.transient_peak_bytes)
    for operator in operator_rows(ledger):
        for figure in ("bytes_at_peak", "peak_bytes", "allocated_bytes", "allocations"):
            yield Row(name, "operator", operator.name, "", figure, getattr(operator, figure))
    yield from site_rows(name, summary)


def site_rows(name: str, summary: PassSummary) -> Iterator[Row]:
    """The lines that hold memory at a pass's peak."""
    for site in summary.sites:
        place = f"{site.file}:{site.line}" if site.line else site.file
        yield Row(name, "site", place, site.category, "bytes_at_peak", site.bytes_at_peak)
