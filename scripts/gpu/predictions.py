"""Predictions, made before anything is measured, beside what was measured."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import Report

if TYPE_CHECKING:
    from vramscope.predict.gpus import Gpu

HERE = Path(__file__).with_name("workloads.py")
OPTIMIZERS = (
    *("sgd", "sgd:momentum=0.9", "adam", "adamw", "adamax", "nadam", "radam", "adagrad", "adadelta", "rmsprop"),
    *("rprop", "asgd", "adafactor"),
)


def configurations() -> dict[str, list[str]]:
    """Command-line arguments by name; the same for `estimate` and `compare`."""
    listed = {name: [f"{HERE}:{name}"] for name in ("eager", "plain", "causal", "mask", "dropout", "convolutions")}
    listed["plain bfloat16"] = [f"{HERE}:plain", "--dtype", "bfloat16"]
    listed["plain amp bfloat16"] = [f"{HERE}:plain", "--amp", "bfloat16"]
    listed["causal amp float16"] = [f"{HERE}:causal", "--amp", "float16"]
    listed["eager sgd"] = [f"{HERE}:eager", "--optimizer", "sgd"]
    listed["gpt2 checkpoint"] = ["gpt2", "--checkpoint", "--seq", "128"]
    listed["lstm"] = ["lstm"]
    listed["resnet18"] = ["resnet18", "--batch", "4"]
    listed["adamw fused"] = [f"{HERE}:dense", "--optimizer", "adamw", "--fused"]
    listed["adamw no-foreach"] = [f"{HERE}:dense", "--optimizer", "adamw", "--no-foreach"]
    listed.update({name: [f"{HERE}:dense", "--optimizer", name] for name in OPTIMIZERS})
    return listed


def gpu_name(machine: dict[str, Any]) -> str:
    """The GPU of the table that is the one here: most words of its title in common, then the nearest memory."""
    from vramscope.predict.gpus import GPUS

    here = machine["gpus"][0] if machine["gpus"] else {"name": "H100 SXM", "memory_bytes": 80 << 30}
    words = set(re.split(r"[^A-Za-z0-9]+", here["name"]))

    def likeness(gpu: "Gpu") -> tuple[int, int]:
        return len(words.intersection(gpu.title.split())), -abs(gpu.memory_bytes - here["memory_bytes"])

    return max(GPUS.values(), key=likeness).name


def predict(report: Report, found: dict[str, Any]) -> None:
    """What `estimate` says of every configuration; written down before the first one runs on the device."""
    machine = report.sections.get("environment", {}).get("machine", {"gpus": []})
    gpu = gpu_name(machine)
    listed = configurations() if report.on_gpu else dict(list(configurations().items())[:1])

    def estimate(name: str) -> dict[str, Any]:
        return _passes(report.document("estimate", *listed[name], "--gpu", gpu))

    found["gpu"] = gpu
    found["predicted"] = report.in_parallel(estimate, list(listed), workers=8)


def measure(report: Report, found: dict[str, Any]) -> None:
    """The same on the device, and how far off each prediction was; a prediction off is a result, no failure."""
    predicted = report.sections.get("predictions", {}).get("predicted")
    if predicted is None:
        found["failures"] = ["nothing was predicted to compare with: run the section predictions too"]
        return
    listed = configurations()

    def compare(name: str) -> dict[str, Any]:
        device = ("--device", report.device, "--no-lines", "--no-host")
        return _passes(report.document("compare", *listed[name], *device))

    measured = report.in_parallel(compare, list(predicted), workers=6)
    found["measured"] = measured
    found["off_percent"] = {name: _off(predicted[name], measured[name]) for name in predicted}
    found["failures"] = [f"{name}: {one['error']}" for name, one in measured.items() if "error" in one]
    _picture(report, found["off_percent"])


def _passes(document: dict[str, Any]) -> dict[str, Any]:
    """Allocated and reserved peaks of each pass's device, and the composition of its peak."""
    return {
        name: {
            "allocated_bytes": one["devices"][0]["allocated_peak_bytes"],
            "reserved_bytes": one["devices"][0]["reserved_peak_bytes"],
            "by_category": one["peak"]["by_category"],
        }
        for name, one in document["passes"].items()
    }


def _off(predicted: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    if "error" in predicted or "error" in measured:
        return {"error": predicted.get("error") or measured.get("error")}
    return {
        f"{name} {kind}": round(100 * (predicted[name][key] - own[key]) / own[key], 4) if own[key] else None
        for name, own in measured.items()
        for kind, key in (("allocated", "allocated_bytes"), ("reserved", "reserved_bytes"))
    }


def _picture(report: Report, off: dict[str, Any]) -> None:
    """How far off, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = ("training allocated", "training reserved", "inference allocated", "inference reserved")
    rows = {name: one for name, one in off.items() if "error" not in one}
    if not rows:
        return
    size = (14, 1.5 + 0.25 * len(rows))
    figure, axes = pyplot.subplots(1, len(kinds), sharey=True, figsize=size, layout="constrained")
    for axis, kind in zip(axes, kinds, strict=True):
        axis.barh(list(rows), [one.get(kind) or 0 for one in rows.values()])
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(f"{kind}\npredicted against measured, %")
    axes[0].invert_yaxis()
    figure.suptitle(f"device: {report.device}")
    figure.savefig(report.folder / "predictions.png", dpi=100)
    pyplot.close(figure)
