"""The JSON view: the fixed keys of schema ``vramscope/1``; every size an integer of bytes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vramscope.ledger.comparison import Comparison
from vramscope.ledger.reconciliation import Reconciliation
from vramscope.ledger.summary import DeviceSummary, PassSummary

SCHEMA = "vramscope/1"
EXTENSION = "json"


def comparison_document(comparison: Comparison, tool: str) -> dict[str, Any]:
    """The document of a comparison, made by the command ``tool``."""
    document = {
        "schema": SCHEMA,
        "tool": tool,
        "environment": dict(comparison.environment),
        "workload": dict(comparison.workload),
        "passes": {name: pass_document(summary, comparison.predicted) for name, summary in comparison.passes.items()},
    }
    if comparison.peak_ratio is not None:
        document["ratio"] = {"peak": comparison.peak_ratio}
    return document


def pass_document(summary: PassSummary, predicted: bool = False) -> dict[str, Any]:
    """The PASS object of the schema."""
    document: dict[str, Any] = {
        "peak": asdict(summary.peak),
        "allocator": asdict(summary.allocator),
        "phases": {name: asdict(level) for name, level in summary.phases.items()},
        "cold": None if summary.cold is None else asdict(summary.cold),
        "activations": asdict(summary.activations),
        "gradients": {"peak_bytes": summary.gradients_peak_bytes},
        "optimizer_state": dict(summary.optimizer_state),
        "modules": [asdict(row) for row in summary.modules],
        "sites": [asdict(site) for site in summary.sites],
        "host": None if summary.host is None else asdict(summary.host),
        "devices": [_device(device) for device in summary.devices],
        "steady_steps": summary.steady_steps,
        "notes": list(summary.notes),
        "complete": summary.complete,
    }
    if predicted:
        document["predicted"] = True
    return document


def to_text(document: Mapping[str, Any]) -> str:
    """A document as text, ending in a newline; names that are no Unicode (file names may be so) are escaped."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text if text.isascii() or _is_unicode(text) else json.dumps(document, indent=2) + "\n"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reconciliation(found: Reconciliation) -> dict[str, Any]:
    return {**asdict(found), "outside_bytes": found.outside_bytes, "others_bytes": found.others_bytes}


def _device(device: DeviceSummary) -> dict[str, Any]:
    return {
        "device": device.device,
        "name": device.name,
        "peak": asdict(device.peak),
        "allocator": asdict(device.allocator),
        "allocated_peak_bytes": device.allocator.peak_bytes,
        "reserved_peak_bytes": device.reserved_peak_bytes,
        "outside_allocator_bytes": device.outside_allocator_bytes,
        "process_used_bytes": device.process_used_bytes,
        "total_bytes": device.total_bytes,
        "max_memory_allocated_bytes": device.max_memory_allocated_bytes,
        "reconciliation": None if device.reconciliation is None else _reconciliation(device.reconciliation),
        "largest": [asdict(block) for block in device.largest],
        "fragmentation": None if device.fragments is None else asdict(device.fragments),
    }
