"""A snapshot's report as JSON: sizes are integer bytes, times microseconds."""

from typing import Any

from vramscope import __version__
from vramscope.allocator.moment import Layout, Moment
from vramscope.allocator.report import SettingsRun, SnapshotReport, Verdict
from vramscope.allocator.settings import describe
from vramscope.allocator.summary import DeviceSummary

SCHEMA = "vramscope/1"


def snapshot_json(report: SnapshotReport) -> dict[str, Any]:
    """The report as a JSON object; ``marks`` are reasons to doubt its figures, empty where there are none."""
    summary = report.summary
    return {
        "schema": SCHEMA,
        "tool": "snapshot",
        "environment": {
            "vramscope": __version__,
            "allocator_settings": summary.snapshot.settings_text,
            "allocator_settings_in_force": describe(summary.snapshot.settings),
            "ignored_options": list(summary.snapshot.settings.ignored),
        },
        "workload": {"name": summary.snapshot.name},
        "exported_from": summary.snapshot.exported_from or None,
        "devices": [
            _exported_device(device) if summary.snapshot.exported_from else _device(device)
            for device in summary.devices
        ],
        "replay": {
            "matched": summary.matched,
            "allocations": summary.allocations,
            "exact": not summary.snapshot.exported_from and all(device.replay.exact for device in summary.devices),
        },
        "settings": [_run(run) for run in report.runs],
        "limit_bytes": report.limit_bytes,
        "fits": report.fits,
        "verdicts": [_verdict(verdict, report) for verdict in report.verdicts],
        "notes": list(report.notes),
        "unknown_actions": dict(summary.snapshot.unknown_actions),
        "marks": list(summary.marks),
    }


def _device(device: DeviceSummary) -> dict[str, Any]:
    return {
        "device": device.name,
        "entries": device.entries,
        "duration_us": device.duration_us,
        "out_of_memory": device.out_of_memory,
        "allocated_peak_bytes": device.replay.peak_allocated,
        "reserved_peak_bytes": device.replay.peak_reserved,
        "matched": device.replay.matched,
        "allocations": device.replay.allocations,
        "deduced_blocks": device.replay.deduced,
        "peak": _moment(device.peak),
        "end": _moment(device.end),
    }


def _exported_device(device: DeviceSummary) -> dict[str, Any]:
    """An export tells what was allocated and by which lines; the rest is null, not 0."""
    unknown = {"layout": None, "composition": None, "workspaces": None}
    return {
        **_device(device),
        "reserved_peak_bytes": None,
        "peak": {**_moment(device.peak), **unknown},
        "end": {**_moment(device.end), **unknown},
    }


def _place(entry: int) -> int:
    """A trace entry counted from 1, as on a terminal; 0 is before the first."""
    return entry + 1


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "bytes": moment.layout.allocated,
        "entry": _place(moment.entry),
        "time_us": moment.time_us,
        "layout": _layout(moment.layout),
        "composition": [
            {
                "kind": part.kind.value,
                "bytes": part.bytes,
                "requested_bytes": part.requested_bytes,
                "blocks": part.blocks,
                "known_from": part.known_from,
            }
            for part in moment.parts
        ],
        "sites": [
            {
                "file": site.file,
                "line": site.line,
                "function": site.function,
                "bytes": site.bytes,
                "bytes_at_peak": site.bytes,  # what "bytes" was called at first, in the end too
                "blocks": site.blocks,
            }
            for site in moment.sites
        ],
        "workspaces": [
            {"library": w.library, "bytes": w.bytes, "address": w.address, "known_from": w.known_from}
            for w in moment.workspaces
        ],
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "reserved_bytes": layout.reserved,
        "allocated_bytes": layout.allocated,
        "requested_bytes": layout.requested,
        "rounding_slack_bytes": layout.slack,
        "pending_free_bytes": layout.pending,
        "releasable_bytes": layout.releasable,
        "stuck_bytes": layout.stuck,
        "largest_free_bytes": layout.largest_free,
        "segments": layout.segments,
        "fragmentation": layout.fragmentation,
    }


def _verdict(verdict: Verdict, report: SnapshotReport) -> dict[str, Any]:
    return {
        "settings": verdict.settings,
        "as_recorded": verdict.as_recorded,
        "asked": verdict.asked,
        "fits": verdict.fits,
        "devices": {device.name: device.device not in verdict.too_small for device in report.summary.devices},
    }


def _run(run: SettingsRun) -> dict[str, Any]:
    outcome = run.outcome
    entry = outcome.failed_entry
    failed = None if entry is None else {"entry": _place(entry), "bytes": outcome.failed_bytes}
    return {
        "device": f"cuda:{run.device}",
        "settings": outcome.settings,
        "ignored_options": list(run.ignored),
        "as_recorded": outcome.as_recorded,
        "asked": run.asked,
        "peak_reserved_bytes": outcome.peak_reserved,
        "peak_allocated_bytes": outcome.peak_allocated,
        "end_reserved_bytes": outcome.end_reserved,
        "retries": outcome.retries,
        "made_room": outcome.made_room,
        "fits": outcome.fits,
        "failed": failed,
    }
