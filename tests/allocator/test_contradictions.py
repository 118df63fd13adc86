"""Files whose numbers contradict one another: read, replayed and reported without a crash, and never in silence."""

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from snapshot_builder import MIB, Program, load

from vramscope.allocator.report import build_report
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.errors import VramscopeError
from vramscope.views.snapshot_json import snapshot_json

ACTIONS = ("alloc", "free_requested", "free_completed", "segment_alloc", "segment_free", "segment_map", "segment_unmap")
STATES = ("inactive", "active_allocated", "active_pending_free")


def program(chance: random.Random, settings: str) -> Program:
    made, alive = Program(settings), []
    for _ in range(chance.randrange(10, 60)):
        step = chance.random()
        if step < 0.55 or not alive:
            pool = chance.choice([None, None, (0, 3)])
            alive.append(made.malloc(int(2 ** chance.uniform(5, 26)), chance.choice([0, 0, 7]), pool))
        elif step < 0.93:
            address = alive.pop(chance.randrange(len(alive)))
            if chance.random() < 0.1:
                made.simulator.record_stream(address, 99)
            made.free(address)
        else:
            made.empty_cache()
    return made


def number(chance: random.Random, trace: list[dict[str, Any]]) -> int:
    """A size or address that is odd, plausible, or somebody else's."""
    known = chance.choice([entry.get("addr", 0) for entry in trace])
    return chance.choice([0, 1, 512, MIB, 2 * MIB, 20 * MIB, 2**40, 2**55 - 1, known, known + 512, max(0, known - 512)])


def spoil(raw: dict[str, Any], chance: random.Random) -> None:
    """Change, repeat or drop one thing."""
    trace, kind = raw["device_traces"][0], chance.random()
    if kind < 0.6:
        key = chance.choice(["addr", "size", "stream", "time_us", "action"])
        chance.choice(trace)[key] = chance.choice(ACTIONS) if key == "action" else number(chance, trace)
    elif kind < 0.7:
        trace.insert(chance.randrange(len(trace)), dict(chance.choice(trace)))
    elif kind < 0.8 and len(trace) > 1:
        trace.pop(chance.randrange(len(trace)))
    elif raw["segments"]:
        segment = chance.choice(raw["segments"])
        block = chance.choice(segment["blocks"])
        part, key = chance.choice([(segment, "address"), (segment, "total_size"), (block, "size"), (block, "state")])
        part[key] = chance.choice(STATES) if key == "state" else number(chance, trace)
        segment["is_expandable"] = chance.random() < 0.5


@pytest.mark.parametrize("settings", ["", "expandable_segments:True", "max_split_size_mb:20"])
def test_spoilt_files_are_refused_or_marked_or_right(tmp_path: Path, settings: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(120):
        chance = random.Random(seed)
        made = program(chance, settings)
        raw = copy.deepcopy(made.snapshot())
        for _ in range(chance.choice([1, 1, 3, 12])):
            spoil(raw, chance)
        try:
            snapshot = load(raw, tmp_path)
            report = build_report(snapshot, ("expandable_segments:True",), limit_bytes=1024 * MIB)
        except VramscopeError as error:
            assert "\n" not in str(error)
            seen["refused"] += 1
            continue
        json.dumps(snapshot_json(report))
        import_snapshot(snapshot, {device.device: device.replay for device in report.summary.devices})
        seen["marked" if report.summary.marks else "clean"] += 1
        if not report.summary.marks and report.summary.devices[0].replay.allocations == len(
            [entry for entry in made.trace if entry["action"] == "alloc"]
        ):
            assert report.summary.devices[0].replay.peak_allocated == made.simulator.totals.peak_allocated
    assert seen["refused"] > 0
    assert seen["marked"] > seen["clean"]
