"""Formats of all versions are read; what they lack is taken for unknown, what is new is passed over or reported."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from snapshot_builder import GENUINE, MIB, Program, frame, load, recorded, training_step, write

from vramscope.allocator.replay import replay
from vramscope.allocator.settings import AllocatorSettings
from vramscope.allocator.snapshot.model import UNKNOWN, Action, BlockState, Hint
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.errors import RecordingError


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_binary_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    raw = training_step().snapshot()
    assert replay(load(raw, tmp_path, protocol), 0).exact


def test_the_text_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="text protocol"):
        load(training_step().snapshot(), tmp_path, 0)


def test_what_a_trace_entry_holds(tmp_path: Path) -> None:
    program = Program()
    program.malloc(700, stream=5, frames=[frame("f", "model.py", 3)])
    snapshot = load(program.snapshot(), tmp_path)
    trace = snapshot.traces[0]
    assert trace.action.tolist() == [Action.SEGMENT_ALLOC, Action.ALLOC]
    assert trace.size.tolist() == [2 * MIB, 700]
    assert trace.stream.tolist() == [5, 5]
    assert trace.time_us.tolist() == [1_000_010, 1_000_020]
    innermost = snapshot.stacks.stacks[trace.stack[1]].frames[0]
    assert (snapshot.stacks.frames[innermost].file, snapshot.stacks.frames[innermost].line) == ("model.py", 3)
    assert snapshot.marks == ()


def torch_2_1(raw: dict[str, Any]) -> dict[str, Any]:
    """What files lacked then: times, pool ids, block addresses, expandable flags, settings, annotations."""
    for entry in raw["device_traces"][0]:
        del entry["time_us"]
    for segment in raw["segments"]:
        del segment["segment_pool_id"], segment["is_expandable"]
        for block in segment["blocks"]:
            del block["address"]
    return {"segments": raw["segments"], "device_traces": raw["device_traces"]}


def test_a_file_of_torch_2_1(tmp_path: Path) -> None:
    snapshot = load(torch_2_1(training_step().snapshot()), tmp_path)
    assert snapshot.settings == AllocatorSettings()
    assert set(snapshot.traces[0].time_us.tolist()) == {UNKNOWN}
    assert replay(snapshot, 0).exact


def test_blocks_without_requested_sizes(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    for segment in raw["segments"]:
        for block in segment["blocks"]:
            del block["requested_size"]
    snapshot = load(raw, tmp_path)
    assert snapshot.segments[0].blocks[0].requested == UNKNOWN
    assert replay(snapshot, 0).exact


@pytest.mark.parametrize("spelling", ["active_pending_free", "active_awaiting_free"])
def test_both_spellings_of_a_pending_free(tmp_path: Path, spelling: str) -> None:
    program = Program()
    address = program.malloc(512)
    program.simulator.record_stream(address, 9)
    program.free(address)
    raw = program.snapshot()
    raw["segments"][0]["blocks"][0]["state"] = spelling
    snapshot = load(raw, tmp_path)
    assert snapshot.segments[0].blocks[0].state is BlockState.PENDING
    assert replay(snapshot, 0).exact


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["future"] = {"nested": [1.5, None, True, "text", b"bytes", (0, 70_000)]}
    for entry in raw["device_traces"][0]:
        entry["compile_context"], entry["user_metadata"], entry["mempool"] = "N/A", "", (0, 0)
    raw["segments"][0]["registration_counter"] = -1
    snapshot = load(raw, tmp_path)
    assert snapshot.marks == ()
    assert replay(snapshot, 0).exact


def test_unknown_actions_are_reported(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["device_traces"][0].insert(3, {"action": "teleport", "addr": 1, "size": 1, "stream": 0, "time_us": 1_000_030})
    snapshot = load(raw, tmp_path)
    assert snapshot.unknown_actions == {"'teleport'": 1}
    assert snapshot.marks == ("1 × trace entries of an unknown kind 'teleport' were passed over",)
    assert replay(snapshot, 0).exact


def test_actions_that_move_no_block(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["device_traces"][0][3:3] = [
        {"action": "oom", "device_free": 5, "size": 512, "stream": 0, "time_us": 1_000_030},
        {"action": "snapshot", "addr": 0, "size": 77, "stream": 0, "time_us": 1_000_030},
        {"action": "annotate", "size": 0, "stream": 0, "time_us": 1_000_030},
    ]
    snapshot = load(raw, tmp_path)
    assert snapshot.traces[0].action[3:6].tolist() == [Action.OOM, Action.SNAPSHOT, Action.ANNOTATE]
    assert replay(snapshot, 0).exact


def test_several_devices(tmp_path: Path) -> None:
    first, second = training_step(), Program("")
    second.malloc(3 * MIB)
    raw, other = first.snapshot(), second.snapshot()
    for segment in other["segments"]:
        segment["device"] = 2
    raw["segments"] += other["segments"]
    raw["device_traces"] += [[], other["device_traces"][0]]
    snapshot = load(raw, tmp_path)
    assert snapshot.devices == [0, 2]
    assert replay(snapshot, 0).exact
    assert replay(snapshot, 2).peak_allocated == 3 * MIB


def test_settings_in_force_override_the_environment(tmp_path: Path) -> None:
    raw = Program("max_split_size_mb:64,large_segment_size_mb:32").snapshot()
    raw["allocator_settings"]["max_split_size"] = 128 * MIB
    raw["allocator_settings"]["expandable_segments"] = True
    settings = load(raw, tmp_path).settings
    assert (settings.max_split_size, settings.large_segment_size) == (128 * MIB, 32 * MIB)
    assert settings.expandable_segments


def test_settings_that_are_not_understood_leave_a_mark(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["allocator_settings"]["PYTORCH_CUDA_ALLOC_CONF"] = "warp_drive:9"
    assert "warp_drive" in load(raw, tmp_path).marks[0]


def test_cpp_frames_leave_hints_and_python_frames_stay(tmp_path: Path) -> None:
    program = Program()
    frames = [
        frame("at::cuda::getCurrentCUDABlasHandle()", "??", 0),
        frame("torch::autograd::Engine::evaluate_function(…)", "Engine.cpp", 0),
        frame("helper", "<eval_with_key>.12", 4),
        frame("step", "/x/site-packages/torch/optim/adam.py", 226),
    ]
    program.malloc(512, frames=frames)
    snapshot = load(program.snapshot(), tmp_path)
    stack = snapshot.stacks.stacks[snapshot.traces[0].stack[1]]
    assert stack.hints == Hint.CUBLAS | Hint.BACKWARD | Hint.OPTIMIZER
    # a file in angle brackets with a suffix is no Python file name that Python itself makes
    assert [snapshot.stacks.frames[number].function for number in stack.frames] == ["step"]


@pytest.mark.parametrize(
    ("path", "value", "mark"),
    [
        (("segments", 0, "total_size"), 4 * MIB, "do not add up to their total_size"),
        (("segments", 0, "allocated_size"), 512, "do not add up to their allocated_size"),
        (("segments", 0, "active_size"), 512, "do not add up to their active_size"),
        (("segments", 0, "requested_size"), 1, "do not add up to their requested_size"),
        (("segments", 0, "blocks", 1, "address"), 512, "do not begin where the one before ends"),
        (("segments", 0, "device"), 3, "a device that the traces do not have"),
        (("device_traces", 0, 5, "time_us"), 10**15, "run backwards"),
        (("device_traces", 0, 5, "frames"), "x", "stack frames are damaged"),
    ],
)
def test_contradictions_leave_marks(tmp_path: Path, path: tuple[Any, ...], value: object, mark: str) -> None:
    raw: Any = training_step().snapshot()
    part = raw
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert any(mark in text for text in load(raw, tmp_path).marks)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("segments", 0), 5),
        (("segments", 0, "blocks"), None),
        (("segments", 0, "blocks", 0), "x"),
        (("segments", 0, "blocks", 0, "size"), -512),
        (("segments", 0, "blocks", 0, "size"), 2.0),
        (("segments", 0, "blocks", 0, "state"), "asleep"),
        (("segments", 0, "blocks", 0, "state"), [[[]]]),
        (("segments", 0, "address"), 2**80),
        (("segments", 0, "segment_type"), "medium"),
        (("segments", 0, "stream"), 2**70),
        (("segments", 1, "address"), None),
        (("device_traces", 0), {}),
        (("device_traces", 0, 4), None),
        (("device_traces", 0, 4, "addr"), "here"),
        (("device_traces", 0, 4, "addr"), 2**64),
        (("device_traces", 0, 4, "size"), -1),
        (("device_traces", 0, 4, "size"), True),
        (("segments",), {}),
        (("device_traces",), 3),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(tmp_path: Path, path: tuple[Any, ...], value: object) -> None:
    raw: Any = training_step().snapshot()
    part = raw
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(RecordingError) as caught:
        load(raw, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    raw = training_step().snapshot()
    raw["segments"].append(dict(raw["segments"][0], blocks=[dict(b) for b in raw["segments"][0]["blocks"]]))
    with pytest.raises(RecordingError, match="overlap"):
        load(raw, tmp_path)


@pytest.mark.skipif(not GENUINE.is_dir(), reason=f"the recorded snapshots are not in {GENUINE}")
def test_the_recordings_are_read_without_a_mark() -> None:
    for path in sorted(GENUINE.glob("*.pickle")):
        assert read_snapshot(recorded(path.stem)).marks == ()


def test_another_pickle_is_no_snapshot(tmp_path: Path) -> None:
    for raw in ([1, 2], {"a": 1}, {"segments": []}, "text", 5, None):
        path = write(raw, tmp_path / "other.pickle")
        with pytest.raises(RecordingError, match="no CUDA memory snapshot"):
            read_snapshot(path)


def test_a_pickled_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.pickle"
    path.write_bytes(pickle.dumps({"segments": [], "device_traces": [[]], "more": {1, 2}}))
    with pytest.raises(RecordingError, match="no instruction of a snapshot"):
        read_snapshot(path)
