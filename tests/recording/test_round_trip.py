"""What is written is read again, to the last bit."""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramscope.errors import RecordingError
from vramscope.recording.file import RecordingWriter, iterate_parts, read_recording, write_recording
from vramscope.recording.recording import NO_SCOPE, Device, Events, Recording, Scopes, Source

from .samples import assert_same, recordings, step_recording

EXTREMES = [0, 1, -1, 2**63 - 1, -(2**63), 2**62, -(2**62), 255, 256, -256, 2**63 - 1, -(2**63)]


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@given(recordings())
def test_any_recording_survives(recording: Recording):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.vram"
        write_recording(recording, path)
        assert leftovers(Path(folder)) == ["any.vram"]
        assert_same(read_recording(path), recording)


@settings(max_examples=40)
@given(st.lists(recordings(Source.VIRTUAL), min_size=1, max_size=4))
def test_sealed_and_unsealed_are_the_same(parts: list[Recording]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.vram"
        with RecordingWriter(path) as writer:
            for part in parts:
                writer.append(part)
            unsealed = read_recording(path)
        sealed = read_recording(path)
        assert not unsealed.complete
        assert unsealed.notes[-1].startswith("this recording was never sealed")
        assert_same(replace(unsealed, complete=sealed.complete, notes=unsealed.notes[:-1]), sealed)


def test_every_64_bit_value_survives_in_every_neighbourhood(tmp_path: Path):
    # all ordered pairs, so that each value follows each other one: the differences between them wrap around
    values = np.asarray([value for pair in ((a, b) for a in EXTREMES for b in EXTREMES) for value in pair])
    zeros = np.zeros(len(values), dtype=np.int64)
    recording = step_recording()
    recording = replace(recording, events=Events(values, values, values, values, zeros, zeros, values, values))
    write_recording(recording, tmp_path / "extremes.vram")
    assert_same(read_recording(tmp_path / "extremes.vram"), recording)


def test_columns_that_are_views_survive(tmp_path: Path):
    recording = step_recording(events=60)
    recording = replace(recording, events=recording.events.take(slice(None, None, -3)))
    write_recording(recording, tmp_path / "views.vram")
    assert_same(read_recording(tmp_path / "views.vram"), recording)


def test_equal_recordings_make_equal_files(tmp_path: Path):
    write_recording(step_recording(), tmp_path / "a.vram")
    write_recording(step_recording(), tmp_path / "b.vram")
    assert (tmp_path / "a.vram").read_bytes() == (tmp_path / "b.vram").read_bytes()


def test_facts_of_the_first_part_hold_for_all_parts(tmp_path: Path):
    first = replace(step_recording(), environment={"python": "3.11"}, workload={"name": "mlp", "batch": 8})
    part = replace(step_recording(), environment={"torch": "2.14"}, workload={"batch": 9}, notes=("early", "late"))
    with RecordingWriter(tmp_path / "headed.vram") as writer:
        writer.append(replace(first, notes=("early",)))
        writer.append(part)
    _, recording = iterate_parts(tmp_path / "headed.vram")
    assert recording.environment == {"python": "3.11", "torch": "2.14"}
    assert recording.workload == {"name": "mlp", "batch": 9}
    assert recording.notes == ("early", "late")


def test_keys_that_json_makes_equal_do_not_make_a_file_unreadable(tmp_path: Path):
    recording = replace(step_recording(), workload={"sizes": {1: "number", "1": "text", "x": (1, 2)}})
    write_recording(recording, tmp_path / "keys.vram")
    assert read_recording(tmp_path / "keys.vram").workload == {"sizes": {"1": "text", "x": [1, 2]}}


def test_a_part_from_another_source_is_refused(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording())
        with pytest.raises(ValueError, match="a part from the virtual cannot continue a recording from the profiler"):
            writer.append(replace(step_recording(), source=Source.VIRTUAL))


def test_text_paths_are_paths(tmp_path: Path):
    write_recording(step_recording(), os.fspath(tmp_path / "text.vram"))
    assert_same(read_recording(os.fspath(tmp_path / "text.vram")), step_recording())
    (part,) = iterate_parts(os.fspath(tmp_path / "text.vram"))
    assert_same(part, step_recording())


def test_facts_that_json_cannot_say_are_refused_and_leave_nothing(tmp_path: Path):
    recording = replace(step_recording(), workload={"model": object()})
    with pytest.raises(
        RecordingError, match=r"cannot be written as JSON: Object of type object is not JSON serializable"
    ):
        write_recording(recording, tmp_path / "odd.vram")
    assert leftovers(tmp_path) == []


def large_recording(events: int) -> Recording:
    """Random times and addresses in random scopes, twelve sizes: nothing that repeats as a real step would."""
    random = np.random.default_rng(events)
    count = events // 2
    size = random.choice(2 ** np.arange(6, 18), count)
    signed = np.stack([size, -size], axis=1).reshape(-1)
    address = np.repeat(random.integers(0, 2**30, count) * 64, 2)
    time = np.cumsum(random.integers(100, 20_000, events))
    total = np.cumsum(signed)
    start = np.sort(random.integers(0, time[-1], count))
    fixed = np.zeros(count, dtype=np.int64)
    parent = np.maximum(np.arange(count) - random.integers(1, 50, count), NO_SCOPE)
    device = np.zeros(events, dtype=np.int64)
    scope = random.integers(0, count, events)
    return replace(
        step_recording(),
        scopes=Scopes(parent, fixed + 3, fixed, start, start + 500, fixed + 1, np.arange(count), fixed),
        events=Events(time, address, signed, signed, device, scope, total, total),
        devices=(Device("cpu", "a CPU", 0, int(total[-1])),),
    )


def test_a_large_recording_takes_space_in_proportion(tmp_path: Path):
    sizes = {}
    for events in (100_000, 1_000_000):
        recording = large_recording(events)
        write_recording(recording, tmp_path / "large.vram")
        sizes[events] = (tmp_path / "large.vram").stat().st_size
        assert_same(read_recording(tmp_path / "large.vram"), recording)
    # per event: times take 2 bytes of 8, addresses 4 (36 random bits, told once per pair), scopes 3 to 5; 20 all in all
    assert sizes[1_000_000] < 11 * sizes[100_000]
    assert sizes[1_000_000] < 20 * 1_000_000


@pytest.mark.parametrize("module", ["torch", "rich", "click", "matplotlib"])
def test_reading_loads_nothing_heavy(module: str):
    code = f"import sys, vramscope.recording.file; print({module!r} in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
