"""Snapshots that vramscope exported itself: peak and sites to the byte, and no rule of the CUDA allocator applied."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from snapshot_builder import frame, load

from vramscope.allocator.report import build_report
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.allocator.summary import summarise
from vramscope.errors import RecordingError, UnsupportedError
from vramscope.ledger.ledger import Ledger
from vramscope.names import EXPORTED_FROM
from vramscope.views.snapshot_json import snapshot_json
from vramscope.views.snapshot_terminal import print_snapshot

MAKE = [frame("make", "train.py", 5)]
USE = [frame("use", "train.py", 9)]


def entry(action: str, address: int, size: int, frames: list[dict[str, Any]]) -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "stream": 0, "time_us": 1, "frames": frames}


def export(kind: str = "cpu") -> dict[str, Any]:
    """A block of 100 B from before dies after 30 B and 7 B were made; the 30 B stay."""
    rows = (("alloc", 64, 30, MAKE), ("alloc", 128, 7, USE), ("free_requested", 256, 100, MAKE))
    trace = [entry(*row) for row in (*rows, ("free_requested", 128, 7, USE))]
    alive = {"address": 64, "size": 30, "requested_size": 30, "state": "active_allocated", "frames": MAKE}
    sums = dict.fromkeys(("total_size", "allocated_size", "active_size", "requested_size"), 30)
    segment = {"device": 0, "address": 64, "stream": 0, "segment_type": "small", "blocks": [alive], **sums}
    return {"segments": [segment], "device_traces": [trace], "allocator_settings": {}, EXPORTED_FROM: kind}


def printed(raw: dict[str, Any], folder: Path) -> str:
    out = StringIO()
    print_snapshot(build_report(load(raw, folder)), Console(file=out, width=300, highlight=False))
    return out.getvalue()


def test_the_peak_is_the_recordings_own(tmp_path: Path) -> None:
    (device,) = summarise(load(export(), tmp_path)).devices
    # 100 from before + 30 + 7; the CUDA allocator would have counted three blocks of 512
    assert (device.name, device.replay.peak_allocated, device.peak.entry) == ("cpu", 137, 1)
    assert device.replay.allocated.tolist() == [130, 137, 37, 30]
    assert device.end.layout.allocated == 30


def test_the_sites_sum_to_the_peak(tmp_path: Path) -> None:
    (device,) = summarise(load(export(), tmp_path)).devices
    held = {(site.function, site.line): site.bytes for site in device.peak.sites}
    assert held == {("(from before the recording, no line known)", 0): 100, ("make", 5): 30, ("use", 9): 7}


def test_one_sentence_says_that_the_rules_do_not_apply(tmp_path: Path) -> None:
    text = printed(export(), tmp_path)
    assert "exported this file from a CPU recording" in text
    assert "the CUDA allocator's rules do not apply to it" in text
    assert "cpu: peak of 137 B allocated (137 B)" in text
    assert "train.py:5 make" in text
    assert not any(word in text for word in ("Replay", "doubtful", "reserved", "slack", "cuda:0"))


def test_an_exported_gpu_recording_keeps_its_devices_name(tmp_path: Path) -> None:
    text = printed(export("cuda"), tmp_path)
    assert "exported this file from a CUDA recording" in text
    assert "cuda:0: peak of 137 B allocated" in text


def test_what_an_export_does_not_tell_is_null_in_json(tmp_path: Path) -> None:
    document = snapshot_json(build_report(load(export(), tmp_path)))
    (device,) = document["devices"]
    assert document["exported_from"] == "cpu"
    assert document["replay"] == {"matched": 0, "allocations": 0, "exact": False}
    assert (device["allocated_peak_bytes"], device["reserved_peak_bytes"], device["peak"]["layout"]) == (
        137,
        None,
        None,
    )
    assert document["marks"] == []


def test_imported_it_is_the_recording_that_it_was_made_from(tmp_path: Path) -> None:
    recording = import_snapshot(load(export(), tmp_path))
    assert recording.devices[0].name == "cpu"
    assert recording.complete
    assert Ledger(recording).peak().bytes == 137


@pytest.mark.parametrize("asked", [{"asked": ("",)}, {"sweep": True}, {"limit_bytes": 1000}])
def test_other_settings_and_limits_are_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="exported it from a CPU recording"):
        build_report(load(export(), tmp_path), **asked)


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        (entry("alloc", 512, 9, MAKE), "neither freed later nor there in the end"),
        (entry("alloc", 64, 9, MAKE), "differ in size"),
    ],
)
def test_contradictions_leave_a_mark(tmp_path: Path, row: dict[str, Any], mark: str) -> None:
    raw = export()
    raw["device_traces"][0].append(row)
    assert any(mark in found for found in summarise(load(raw, tmp_path)).marks)


def test_an_address_can_be_held_twice(tmp_path: Path) -> None:
    raw = export()
    # the 30 B at 64 died unseen: 50 B follow there, and the recording's own total counts both
    alive = {"address": 64, "size": 50, "requested_size": 50, "state": "active_allocated", "frames": USE}
    sums = dict.fromkeys(("total_size", "allocated_size", "active_size", "requested_size"), 50)
    raw["segments"].append({**raw["segments"][0], "blocks": [alive], **sums})
    raw["device_traces"][0].append(entry("alloc", 64, 50, USE))
    summary = summarise(load(raw, tmp_path))
    (device,) = summary.devices
    assert device.replay.allocated.tolist() == [130, 137, 37, 30, 80]
    assert {site.function: site.bytes for site in device.end.sites} == {"make": 30, "use": 50}
    assert summary.marks == ()


def test_two_blocks_of_one_address_at_the_start_leave_a_mark(tmp_path: Path) -> None:
    raw = export()
    raw["device_traces"] = [[entry("free_requested", 64, 9, MAKE)]]  # while 30 B lie there in the end, made by nothing
    assert any("lie on one another" in mark for mark in summarise(load(raw, tmp_path)).marks)


def test_totals_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    raw = export()
    raw["device_traces"] = [[entry("alloc", 64, 2**55, MAKE) for _ in range(300)]]
    with pytest.raises(RecordingError, match="exceed 64 bits"):
        summarise(load(raw, tmp_path))


@pytest.mark.parametrize("kind", [7, None, ["cpu"], {"a": 1}])
def test_a_marker_of_another_type_is_passed_over(tmp_path: Path, kind: object) -> None:
    raw = export()
    raw[EXPORTED_FROM] = kind
    assert load(raw, tmp_path).exported_from == ""


def test_a_hostile_marker_is_text(tmp_path: Path) -> None:
    raw = export("\x1b[31m" + "x" * 10**5)
    shown = load(raw, tmp_path).exported_from
    assert shown.isprintable()
    assert len(shown) < 60
