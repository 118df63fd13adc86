"""Runs and verdicts over several devices and odd settings."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from snapshot_builder import EMPTY_CACHE, LINE, MIB, Program, load, training_step

from vramscope.allocator.report import SnapshotReport, build_report
from vramscope.errors import UsageError
from vramscope.views.snapshot_json import snapshot_json
from vramscope.views.snapshot_terminal import print_snapshot


def joined(*programs: Program, traced: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    """One snapshot with a device for each program, some of whose history was not recorded."""
    raw = programs[0].snapshot()
    raw["segments"], raw["device_traces"] = [], []
    for device, program in enumerate(programs):
        other = program.snapshot()
        raw["segments"] += [{**segment, "device": device} for segment in other["segments"]]
        raw["device_traces"].append(other["device_traces"][0] if device in traced else [])
    return raw


def holding(*sizes: int) -> Program:
    program = Program()
    for size in sizes:
        program.malloc(size)
    return program


def printed(report: SnapshotReport) -> str:
    out = StringIO()
    print_snapshot(report, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_every_device_must_fit(tmp_path: Path) -> None:
    snapshot = load(joined(holding(30 * MIB), holding(50 * MIB)), tmp_path)
    assert build_report(snapshot, limit_bytes=50 * MIB).fits is True
    report = build_report(snapshot, limit_bytes=40 * MIB)
    assert report.fits is False
    document = snapshot_json(report)
    recorded = next(verdict for verdict in document["verdicts"] if verdict["as_recorded"])
    assert recorded["devices"] == {"cuda:0": True, "cuda:1": False}
    assert not any(verdict["fits"] for verdict in document["verdicts"])
    text = printed(report)
    assert "The trace does not fit in 40.0 MiB (41,943,040 B) on each device" in text
    assert "too small as recorded: cuda:1" in text
    assert "of the other settings tried, it fits under none" in text


def test_one_set_of_settings_has_to_serve_all_devices(tmp_path: Path) -> None:
    # 15 MiB: a segment of 16, two pages of 12, or one of 20. Four of 11: four segments of 12 are 48; end to end 44 on
    # four pages of 12, or three of 20
    snapshot = load(joined(holding(15 * MIB), holding(*[11 * MIB] * 4)), tmp_path)
    fine, coarse = "expandable_segments:True,large_segment_size_mb:12", "expandable_segments:True"
    peaks = {
        (run.device, run.outcome.settings): run.outcome.peak_reserved // MIB
        for run in build_report(snapshot, (fine, coarse, "")).runs
        if not run.outcome.as_recorded
    }
    assert peaks == {(0, ""): 16, (1, ""): 48, (0, fine): 24, (1, fine): 48, (0, coarse): 20, (1, coarse): 60}
    assert build_report(snapshot, (fine, coarse), limit_bytes=48 * MIB).fits is True
    assert build_report(snapshot, (coarse,), limit_bytes=48 * MIB).fits is False


def test_settings_that_serve_one_device_each_do_not_add_up(tmp_path: Path) -> None:
    # 61 MiB: a segment of 62, or four pages of 20. Eight of 7: two to a segment of 20 make 80, end to end 56 on three
    # pages of 20
    snapshot = load(joined(holding(61 * MIB), holding(*[7 * MIB] * 8)), tmp_path)
    report = build_report(snapshot, ("", "expandable_segments:True"), limit_bytes=70 * MIB)
    assert {(v.settings, v.too_small) for v in report.verdicts if v.asked} == {
        ("", (1,)),
        ("expandable_segments:True", (0,)),
    }
    assert report.fits is False


def test_a_device_without_a_history_counts(tmp_path: Path) -> None:
    snapshot = load(joined(holding(30 * MIB), holding(50 * MIB), traced=(0,)), tmp_path)
    report = build_report(snapshot, limit_bytes=40 * MIB)
    assert [(device.name, device.entries) for device in report.summary.devices] == [("cuda:0", 2), ("cuda:1", 0)]
    assert report.summary.devices[1].replay.peak_reserved == 50 * MIB
    assert report.fits is False
    assert "cuda:1: peak of 50.0 MiB allocated (52,428,800 B), in the end; nothing was recorded on it" in printed(
        report
    )
    assert build_report(snapshot, limit_bytes=50 * MIB).fits is True


def test_memory_on_a_device_that_the_traces_lack_counts_and_is_marked(tmp_path: Path) -> None:
    raw = joined(holding(30 * MIB), holding(50 * MIB), traced=(0,))
    raw["device_traces"].pop()
    report = build_report(load(raw, tmp_path), limit_bytes=40 * MIB)
    assert [device.name for device in report.summary.devices] == ["cuda:0", "cuda:1"]
    assert report.fits is False
    assert any("the traces do not have" in mark for mark in report.summary.marks)


def test_a_files_own_unknown_option_is_told_and_passed_over(tmp_path: Path) -> None:
    program = Program("max_split_size_mb:64")
    program.malloc(30 * MIB)
    raw = program.snapshot()
    raw["allocator_settings"]["PYTORCH_CUDA_ALLOC_CONF"] = "warp_drive:9,max_split_size_mb:64"
    report = build_report(load(raw, tmp_path), sweep=True, limit_bytes=64 * MIB)
    assert report.fits is True
    assert any("warp_drive" in mark for mark in report.summary.marks)
    assert report.runs[0].outcome.settings == "max_split_size_mb:64"
    with pytest.raises(UsageError, match="warp_drive"):
        build_report(load(raw, tmp_path), asked=("warp_drive:9",))


def test_settings_are_called_by_what_was_in_force(tmp_path: Path) -> None:
    program = Program("expandable_segments:True")
    program.malloc(30 * MIB)
    raw = program.snapshot()
    raw["allocator_settings"]["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:False"
    report = build_report(load(raw, tmp_path), sweep=True)
    recorded = [run.outcome for run in report.runs if run.outcome.as_recorded]
    assert [outcome.settings for outcome in recorded] == ["expandable_segments:True"]
    document = snapshot_json(report)
    assert document["environment"]["allocator_settings"] == "expandable_segments:False"
    assert document["environment"]["allocator_settings_in_force"] == "expandable_segments:True"
    stated = "expandable_segments:True (PYTORCH_CUDA_ALLOC_CONF: expandable_segments:False)"
    assert f"Allocator settings in force: {stated}" in printed(report)


def test_options_that_change_nothing_are_shown(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["allocator_settings"]["PYTORCH_CUDA_ALLOC_CONF"] = "pinned_use_background_threads:True"
    asked = "expandable_segments:True,release_lock_on_cudamalloc:True"
    report = build_report(load(raw, tmp_path), asked=(asked,))
    document = snapshot_json(report)
    assert document["environment"]["ignored_options"] == ["pinned_use_background_threads"]
    assert {run["settings"]: run["ignored_options"] for run in document["settings"]} == {
        asked: ["release_lock_on_cudamalloc"],
        "": ["pinned_use_background_threads"],
    }
    text = printed(report)
    assert "change no figure here: pinned_use_background_threads" in text
    assert "change no figure here: release_lock_on_cudamalloc" in text


def test_releases_that_nobody_can_tell_apart_are_told(tmp_path: Path) -> None:
    def released(stacks: bool) -> SnapshotReport:
        program = Program()
        program.free(program.malloc(30 * MIB, frames=LINE if stacks else None))
        program.empty_cache(EMPTY_CACHE if stacks else None)
        program.malloc(40 * MIB, frames=LINE if stacks else None)
        return build_report(load(program.snapshot(), tmp_path), sweep=True)

    assert released(stacks=True).notes == ()
    (note,) = released(stacks=False).notes
    assert note.startswith("cuda:0: releases of cached memory of which the trace does not tell")
    assert "made room: 1;" in note
    assert note in printed(released(stacks=False))
