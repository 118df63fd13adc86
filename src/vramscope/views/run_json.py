"""The JSON view of a script's run: schema ``vramscope/1``, tool ``run``."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vramscope.ledger.growth import Growth
from vramscope.ledger.ranks import RankedPass
from vramscope.ledger.run import RunSummary
from vramscope.views.json import SCHEMA, pass_document


def run_document(summary: RunSummary, exit_code: int | None, ranks: Mapping[str, RankedPass]) -> dict[str, Any]:
    """The document of a run.

    Args:
        summary: the run itself, or that of the rank to show.
        exit_code: the script's; None where a recording is read again, which does not know it.
        ranks: every pass over all ranks; empty outside a distributed job.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "tool": "report" if exit_code is None else "run",
        "environment": dict(summary.environment),
        "workload": dict(summary.workload),
        "passes": {name: pass_document(found) for name, found in summary.passes.items()},
        "steps": [asdict(step) for step in summary.steps],
        "growth": [_growth(row) for row in summary.growth],
        "counted_steps": [asdict(row) for row in summary.counted],
        "children": [{"process": name, "rss_peak_bytes": size} for name, size in summary.children.items()],
        "windows": summary.windows,
        "notes": list(summary.notes),
        "complete": summary.complete,
    }
    if exit_code is not None:
        document["exit_code"] = exit_code
    if ranks:
        document["ranks"] = {name: _ranks(ranked) for name, ranked in ranks.items()}
    return document


def _ranks(ranked: RankedPass) -> dict[str, Any]:
    return {
        "peak_bytes": {str(rank): size for rank, size in ranked.peak_bytes.items()},
        "imbalance": ranked.imbalance,
        "worst_rank": ranked.worst_rank,
        "worst": pass_document(ranked.worst),
        "passes": {str(rank): pass_document(found) for rank, found in ranked.passes.items()},
    }


def _growth(row: Growth) -> dict[str, Any]:
    origin = asdict(row.origin)
    return {**origin, "bytes_per_step": row.bytes_per_step, "blocks_per_step": row.blocks_per_step, "steps": row.steps}
