"""The sections of the check, in order, each with the seconds it may need."""

import tempfile
from pathlib import Path
from typing import Any

import operators
import overhead
import predictions
from report import ROOT_OF_TESTS, OverTime, Report

from vramscope.recorders.cuda.device import FROM_NVML

MODELS = {
    "mlp": [],
    "resnet18": [],
    "vit_b16": [],
    "gpt2": [],
    "gpt2 bfloat16": ["--amp", "bfloat16"],
    "gpt2 checkpoint": ["--checkpoint"],
    "lstm": [],
}
SMALL_MODELS = {"mlp": [], "lstm": ["--batch", "2", "--steps", "1"]}
KEPT = "gpt2"


def environment(report: Report, found: dict[str, Any]) -> None:
    """The machine, as `vramscope doctor` sees it."""
    found.update(report.document("doctor"))
    if report.on_gpu and not found["machine"]["gpus"]:
        found["failures"] = [found["machine"]["cuda_problem"]]


def tests(report: Report, found: dict[str, Any]) -> None:
    """tests/gpu, all of it."""
    folder = str(ROOT_OF_TESTS / "gpu")
    try:
        finished = report.command("-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", folder)
        text, failed = finished.stdout + finished.stderr, finished.returncode != 0
    except OverTime as error:
        text, failed = f"{error.printed}\n{error}\n", True
    (report.folder / "tests.txt").write_text(text[-200_000:], encoding="utf-8")
    found["summary"] = text.strip().splitlines()[-1] if text.strip() else ""
    if failed:
        found["failures"] = text.strip().splitlines()[-30:]


def models(report: Report, found: dict[str, Any]) -> None:
    """`compare` on the model list: exact sums, nothing unattributed, and torch's own peak."""
    listed = MODELS if report.on_gpu else SMALL_MODELS
    with tempfile.TemporaryDirectory() as scratch:

        def compare(name: str) -> dict[str, Any]:
            out = ["-o", str(Path(scratch) / name)] if name == KEPT else []
            lines = [] if name == KEPT else ["--no-lines"]
            document = report.document(
                "compare", name.split()[0], *listed[name], "--device", report.device, "--no-host", *lines, *out
            )
            return {key: _of_pass(one) for key, one in document["passes"].items()}

        results = report.in_parallel(compare, list(listed), workers=3)
        found["models"] = results
        for kept in (Path(scratch) / KEPT).glob("*"):
            if kept.name in ("timeline.png", "peaks.png", "training.vram"):
                report.keep(kept.rename(kept.with_name(f"{KEPT}-{kept.name}")))
    found["failures"] = [wrong for name, passes in results.items() for wrong in _wrong(report, name, passes)]


def _of_pass(document: dict[str, Any]) -> dict[str, Any]:
    kept = ("peak", "allocator", "devices", "cold", "phases", "notes", "steady_steps")
    return {key: document[key] for key in kept}


def _wrong(report: Report, name: str, passes: dict[str, Any]) -> list[str]:
    if "error" in passes:
        return [f"{name}: {passes['error']}"]
    wrong = []
    for key, one in passes.items():
        held = sum(one["peak"]["by_category"].values())
        peak, own = one["peak"]["bytes"], one["allocator"]["peak_bytes"]
        torchs = one["devices"][0]["max_memory_allocated_bytes"]
        checks = {
            "categories sum to the peak": held == peak,
            "the peak is the allocator's": peak == own,
            "no disagreement at any event": one["allocator"]["max_disagreement_bytes"] == 0,
            "nothing is unattributed": one["peak"]["by_category"]["unattributed"] == 0,
            "torch.cuda.max_memory_allocated agrees": not report.on_gpu or torchs == peak,
        }
        wrong += [f"{name}, {key}: not so: {check}" for check, holds in checks.items() if not holds]
    return wrong


def reconciliation(report: Report, found: dict[str, Any]) -> None:
    """The rows that lead to NVML's figure, of every model compared."""
    rows: dict[str, Any] = {}
    for name, passes in report.sections.get("models", {}).get("models", {}).items():
        for key, one in passes.items() if "error" not in passes else ():
            rows[f"{name}, {key}"] = one["devices"][0]["reconciliation"]
    found["rows"] = rows
    if report.on_gpu:
        found["failures"] = [name for name, row in rows.items() if row is None or not _adds_up(row)] or (
            [] if rows else ["no model was compared"]
        )


def _adds_up(row: dict[str, Any]) -> bool:
    requested = sum(row["requested_by_category"].values())
    return (
        requested + row["slack_bytes"] == row["allocated_bytes"]
        and requested == row["allocator_requested_bytes"]
        and row["small_pool_bytes"] == row["allocator_small_pool_bytes"]
        and row["allocated_bytes"] + row["pending_bytes"] + row["cached_bytes"] == row["reserved_bytes"]
        and row["used_bytes"] + row["free_bytes"] + row["driver_bytes"] == row["total_bytes"]
        # a share that is the growth of used memory has the models that ran meanwhile in it; in tests/gpu they run alone
        and (row["method"] != FROM_NVML or row["reserved_bytes"] <= row["process_bytes"] <= row["used_bytes"])
    )


def snapshot(report: Report, found: dict[str, Any]) -> None:
    """A snapshot of our own, recorded with torch's own call and replayed allocation by allocation."""
    if not report.on_gpu:
        found["skipped"] = "cpu: only CUDA has snapshots"
        return
    path = report.folder / "snapshot.pickle"
    finished = report.command(str(Path(__file__).with_name("record_snapshot.py")), str(path))
    if finished.returncode:
        raise RuntimeError(finished.stderr[-600:])
    document = report.document("snapshot", str(path))
    found["replay"] = document["replay"]
    if document["replay"]["matched"] != document["replay"]["allocations"]:
        found["failures"] = ["not every allocation replays at the recorded address"]


SECTIONS = {
    "environment": (environment, 40),
    "predictions": (predictions.predict, 110),
    "models": (models, 110),
    "reconciliation": (reconciliation, 5),
    "measurements": (predictions.measure, 130),
    "tests": (tests, 150),
    "overhead": (overhead.measure, 50),
    "operators": (operators.compare, 60),
    "snapshot": (snapshot, 25),
}
"""Predictions come before anything is measured; what would hurt most to lose comes early."""
