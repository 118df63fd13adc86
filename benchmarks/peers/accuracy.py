"""What a tool says of a step's memory, against what the allocator counts and what can be derived by hand.

Every tool looks at a fresh process of its own, so that its own memory can be told.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.peers.models import KERNEL, LITTLE, MODELS, Model
from benchmarks.peers.session import Session
from benchmarks.peers.tools import TOOLS
from vramscope.errors import WorkloadError

TRUTH = "truth"
_KNOWN = {model.name: model for model in (*MODELS.values(), KERNEL, LITTLE)}


def measure_accuracy(model: Model, tools: Sequence[str]) -> dict[str, Any]:
    """What each tool claims, and under `TRUTH` what is true."""
    found = {name: _in_child(model, name) for name in (TRUTH, *tools)}
    base = found[TRUTH]["rss_peak_bytes"]
    for claim in found.values():
        claim["own_memory_bytes"] = claim.pop("rss_peak_bytes") - base
    return found


def _in_child(model: Model, tool: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers.accuracy", model.name, tool]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise WorkloadError(f"{tool} on {model.name} failed: {result.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def _answer(model: Model, tool: str) -> Mapping[str, Any]:
    if tool == TRUTH:
        session = Session(model.prepare())
        session.step()  # as often as under a tool
        rss_peak_bytes = _rss_peak_bytes()  # before the profiler that reads the allocator's total
        return {"peak_bytes": session.true_peak_bytes(), "split": model.truth, "rss_peak_bytes": rss_peak_bytes}
    return {**asdict(TOOLS[tool]().claim(model)), "rss_peak_bytes": _rss_peak_bytes()}


def _rss_peak_bytes() -> int:
    """The highest that this process's memory ever was (VmHWM, in kB of 1024 bytes; proc(5))."""
    with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123 - a stream of the kernel's, not a file
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_answer(_KNOWN[sys.argv[1]], sys.argv[2])))
