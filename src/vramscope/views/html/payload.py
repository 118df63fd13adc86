"""What the page's script draws: names made visible, sizes as integers, the timeline thinned out."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import CATEGORIES, CODE, Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.largest import NO_BLOCK, describe_block, largest_alive
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.module_tree import module_tree
from vramscope.ledger.operators import operator_rows
from vramscope.ledger.periods import Period
from vramscope.ledger.sites import place_of_frame, shown_frames
from vramscope.ledger.summary import PassSummary, steady_window
from vramscope.names import visible
from vramscope.recording.recording import Integers
from vramscope.views.palette import DARK, OTHER_PHASE, PAINTS, PHASE_COLOURS, STACK_ORDER
from vramscope.views.sampling import rows_to_draw
from vramscope.views.text import Scale, category_label

_COLUMNS = 900
"""Into how many columns each of the two views of the timeline is cut: about as many as the chart has pixels."""
_LARGEST = 6
_MOST_PERIODS = 300
"""More phases than this could not be told apart."""

Plain = dict[str, Any]


def page_payload(comparison: Comparison) -> Plain:
    """Everything that the script needs, in plain JSON types."""
    scale = Scale.fitting(max((summary.peak.bytes for summary in comparison.passes.values()), default=0))
    name = str(comparison.workload.get("name") or comparison.workload.get("target") or "recording")
    return {
        "name": visible(name),
        "power": scale.power,
        "paints": {str(category): _paint(category) for category in STACK_ORDER},
        "phaseColours": {**PHASE_COLOURS, "": OTHER_PHASE},
        "passes": [_pass(n, comparison.ledgers[n], summary) for n, summary in comparison.passes.items()],
    }


def _paint(category: Category) -> Plain:
    paint = PAINTS[category]
    return {
        "label": category_label(category),
        "colour": paint.colour,
        "dark": DARK.get(category, paint.colour),
        "hatch": paint.hatch[:1],
        "ink": paint.ink,
    }


def _pass(name: str, ledger: Ledger, summary: PassSummary) -> Plain:
    nodes = module_tree(summary)
    number = {node.path: index for index, node in enumerate(nodes)}  # paths as shown may be cut, and so alike
    return {
        "name": visible(name),
        "peak": summary.peak.bytes,
        "hasSteadySteps": bool(summary.steady_steps),
        "timeline": _timeline(ledger),
        "modules": [
            {
                "path": visible(node.path),
                "parent": None if node.parent is None else number[node.parent],
                "type": visible(node.type),
                "own": _figures(vars(node.own)),
                "all": _figures(vars(node.inclusive)),
                "transient": node.transient_peak_bytes,
            }
            for node in nodes
        ],
        "operators": [
            [visible(row.name), row.bytes_at_peak, row.peak_bytes, row.allocated_bytes, row.allocations]
            for row in operator_rows(ledger)
        ],
        "sites": [
            [_place(site.file, site.line), visible(site.function), category_label(site.category), site.bytes_at_peak]
            for site in summary.sites
        ],
    }


def _figures(figures: Mapping[str, int]) -> list[int]:
    """Parameters, retained activations, gradients, optimizer state."""
    return [figures[k] for k in ("parameter_bytes", "retained_bytes", "gradient_bytes", "optimizer_state_bytes")]


def _place(file: str, line: int) -> str:
    return f"{visible(file)}:{line}" if line else visible(file)


def _timeline(ledger: Ledger) -> Plain:
    """The main device's composition over the whole recording, and what is needed to explain each moment."""
    window = steady_window(ledger)
    top = ledger.peak(window)
    times, levels = ledger.timeline()
    rows = ledger.event_rows[0]
    reserved = ledger.reserved_totals()
    totals = [levels.sum(axis=1), *([] if reserved is None else [reserved])]
    chosen = np.unique(
        np.concatenate([_chosen(times, t, rows, (window.first, window.last), top.event) for t in totals])
    )
    events = np.append(BEFORE, rows[chosen])
    start = int(times[0]) if len(times) else 0
    table = np.concatenate([[list(ledger.composition(BEFORE).values())], levels[chosen]])
    stamps = np.append(start, times[chosen]) - start
    shown = [category for category in STACK_ORDER if table[:, CODE[category]].any()]
    phases, steps = ledger.periods.phases, ledger.steps
    return {
        "events": events.tolist(),
        "ns": stamps.tolist(),
        "series": {str(category): _changes(table[:, CODE[category]]) for category in shown},
        "reserved": None if reserved is None else _changes(reserved[np.append(0, chosen)]),
        "peakAt": int(np.searchsorted(events, top.event)),
        "steady": [_time(ledger, window.first) - start, _time(ledger, window.last - 1) - start],
        "steadyEvents": [window.first, window.last],
        "phases": [_period(ledger, phase, start) for phase in phases[:_MOST_PERIODS]],
        "steps": [_period(ledger, step, start) for step in steps[:_MOST_PERIODS]],
        **_largest(ledger, events),
        "thinned": len(chosen) < len(rows),
    }


def _chosen(times: Integers, totals: Integers, rows: Integers, window: Sequence[int], top: int) -> Integers:
    """Which of the device's events to draw: enough for the whole, enough for the steady steps, and the peak."""
    begin, end = np.searchsorted(rows, window)
    parts = [np.searchsorted(rows, [top]) if top != BEFORE else rows[:0]]
    for first, last in ((0, len(rows)), (int(begin), int(end))):
        for positions in (times, np.arange(len(times))):  # the page shows either axis
            inside = positions[first:last].astype(np.float64)
            if len(inside):
                parts.append(first + rows_to_draw(inside, totals[first:last], _COLUMNS // 2))
    return np.unique(np.concatenate(parts)).astype(np.int64)


def _changes(column: Integers) -> list[list[int]]:
    """Where a column changes, and what it becomes: a single event changes just one category."""
    places = np.flatnonzero(np.diff(column, prepend=-1))
    return [places.tolist(), column[places].tolist()]


def _period(ledger: Ledger, period: Period, start: int) -> Plain:
    begin, end = _time(ledger, period.first), _time(ledger, max(period.last - 1, period.first))
    name = visible(period.name) if period.name != "step" else f"step {period.value}"
    return {"name": name, "ns": [begin - start, end - start], "events": [period.first, period.last]}


def _time(ledger: Ledger, event: int) -> int:
    """When an event happened, or the nearest one."""
    times = ledger.recording.events.time_ns
    return int(times[min(max(event, 0), len(times) - 1)]) if len(times) else 0


def _largest(ledger: Ledger, events: Integers) -> Plain:
    """The largest blocks at every moment drawn, told where they change, and each of them in words."""
    found = largest_alive(ledger, events, _LARGEST)
    rows = [row for row in np.unique(found).tolist() if row != NO_BLOCK]
    number = {row: index for index, row in enumerate(rows)}
    changed = np.flatnonzero(np.append(True, (found[1:] != found[:-1]).any(axis=1)))
    lists = [[number[row] for row in moment if row != NO_BLOCK] for moment in found[changed].tolist()]
    frames = shown_frames(ledger)[ledger.blocks.birth_scope[rows]].tolist()
    blocks = [_block(ledger, row, frame) for row, frame in zip(rows, frames, strict=True)]
    return {"largestAt": changed.tolist(), "largest": lists, "blocks": blocks}


def _block(ledger: Ledger, row: int, frame: int) -> list[Any]:
    facts = describe_block(ledger, row)
    file, line, _ = place_of_frame(ledger, frame)
    place = f"{PurePath(file).name}:{line}" if line else ""
    words = (facts.label, facts.module, facts.operator or "", facts.phase or "", place)
    return [facts.size_bytes, CATEGORIES.index(facts.category), *(visible(word) for word in words)]
