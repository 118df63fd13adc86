from pathlib import Path

import numpy as np
import pytest
from snapshot_builder import MIB, Program, frame, load, recorded, training_step

from vramscope.allocator.moment import CUBLAS_WORKSPACE
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.recording.recording import NO_SCOPE, MarkKind, Recording, ScopeKind, Source


def running_totals(recording: Recording, device: int) -> list[int]:
    mine = recording.events.device == device
    start = int(recording.seeds.size[recording.seeds.device == device].sum())
    return (start + np.cumsum(recording.events.size[mine])).tolist()


def test_events_carry_both_sizes_and_the_allocators_totals(tmp_path: Path) -> None:
    program = Program()
    address = program.malloc(700)
    program.free(address)
    recording = import_snapshot(load(program.snapshot(), tmp_path))
    events = recording.events
    assert recording.source is Source.SNAPSHOT
    assert events.address.tolist() == [address, address]
    assert events.size.tolist() == [1024, -1024]
    assert events.requested.tolist() == [700, -700]
    assert events.total.tolist() == [1024, 0]
    assert events.reserved.tolist() == [2 * MIB, 2 * MIB]
    # segment_alloc 1,000,010 us, alloc 20, free_requested 30
    assert events.time_ns.tolist() == [1_000_020_000, 1_000_030_000]
    assert (recording.complete, recording.notes) == (True, ())


def test_blocks_from_before_are_seeds(tmp_path: Path) -> None:
    program = Program()
    kept = program.malloc(700)
    waits = program.malloc(512)
    program.simulator.record_stream(waits, 3)
    program.free(waits)
    skip = len(program.trace)
    program.malloc(512)
    recording = import_snapshot(load(program.snapshot(skip), tmp_path))
    # the waiting block counts as allocated no more
    assert recording.seeds.address.tolist() == [kept]
    assert (recording.seeds.size.tolist(), recording.seeds.requested.tolist()) == ([1024], [700])
    assert (recording.devices[0].start_total, recording.devices[0].end_total) == (1024, 1536)


def test_python_frames_are_scopes_chained_to_their_callers(tmp_path: Path) -> None:
    program = Program()
    main = frame("main", "train.py", 3)
    program.malloc(512, frames=[frame("f", "net.py", 10), frame("cpp::call()", "??", 0), main])
    program.malloc(512, frames=[frame("g", "net.py", 20), main])
    program.malloc(512, frames=[])
    recording = import_snapshot(load(program.snapshot(), tmp_path))
    scopes = recording.scopes
    names = [recording.strings[name] for name in scopes.name]
    assert names == ["train.py|main", "net.py|f", "net.py|g"]
    assert scopes.parent.tolist() == [NO_SCOPE, 0, 0]
    assert set(scopes.kind.tolist()) == {ScopeKind.PYTHON_FRAME}
    assert scopes.value.tolist() == [3, 10, 20]
    assert recording.events.scope.tolist() == [1, 2, NO_SCOPE]
    # main lasts from its first to its last allocation
    assert (scopes.start_ns[0], scopes.end_ns[0]) == (recording.events.time_ns[0], recording.events.time_ns[1])


def test_workspaces_are_marked(tmp_path: Path) -> None:
    program = Program()
    before = program.malloc(CUBLAS_WORKSPACE)
    skip = len(program.trace)
    later = program.malloc(40 * MIB, frames=[frame("at::cuda::getCurrentCUDABlasHandle()", "??", 0)])
    marks = import_snapshot(load(program.snapshot(skip), tmp_path)).marks
    assert marks.address.tolist() == [before, later]
    assert set(marks.kind.tolist()) == {MarkKind.LIBRARY_WORKSPACE}
    assert marks.size.tolist() == [CUBLAS_WORKSPACE, 40 * MIB]


def test_several_devices_are_merged_by_time(tmp_path: Path) -> None:
    first, second = training_step(), training_step()
    raw, other = first.snapshot(), second.snapshot()
    for segment in other["segments"]:
        segment["device"] = 1
    raw["segments"] += other["segments"]
    raw["device_traces"] += other["device_traces"]
    recording = import_snapshot(load(raw, tmp_path))
    assert np.all(np.diff(recording.events.time_ns) >= 0)
    assert [device.name for device in recording.devices] == ["cuda:0", "cuda:1"]
    for device in (0, 1):
        mine = recording.events.device == device
        assert running_totals(recording, device) == recording.events.total[mine].tolist()


def test_a_file_without_times_keeps_its_order(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    for entry in raw["device_traces"][0]:
        del entry["time_us"]
    times = import_snapshot(load(raw, tmp_path)).events.time_ns
    assert np.all(np.diff(times) > 0)


def test_doubts_leave_the_recording_incomplete(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    del raw["device_traces"][0][4]
    recording = import_snapshot(load(raw, tmp_path))
    assert not recording.complete
    assert recording.notes


@pytest.mark.parametrize("name", ["medium_256_training", "graph_breaks", "forward_128_segments"])
def test_the_events_of_a_recording_sum_to_the_allocators_totals(name: str) -> None:
    recording = import_snapshot(read_snapshot(recorded(name)))
    assert running_totals(recording, 0) == recording.events.total.tolist()
    assert recording.complete
