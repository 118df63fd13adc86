"""The recordings of a run: one file, an unsealed folder, or a folder of passes."""

from dataclasses import replace
from pathlib import Path

import pytest

from recording.samples import assert_same, step_recording
from vramscope.errors import RecordingError
from vramscope.recording.collection import read_passes
from vramscope.recording.writer import RecordingWriter, write_recording


def test_a_file_goes_by_its_pass(tmp_path: Path) -> None:
    recording = replace(step_recording(), workload={"pass": "training"})
    write_recording(recording, tmp_path / "any.vram")
    assert list(read_passes(tmp_path / "any.vram")) == ["training"]
    write_recording(step_recording(), tmp_path / "plain.vram")
    assert list(read_passes(tmp_path / "plain.vram")) == ["recording"]


def test_a_folder_of_passes(tmp_path: Path) -> None:
    for name in ("training", "inference"):
        write_recording(step_recording(), tmp_path / f"{name}.vram")
    found = read_passes(tmp_path)
    assert list(found) == ["inference", "training"]
    assert_same(found["training"], step_recording())


def test_an_unsealed_recording_alone_and_in_a_folder(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "training.vram")
    writer.append(step_recording())
    assert not read_passes(tmp_path)["training"].complete
    assert not read_passes(tmp_path / "training.vram.part")["recording"].complete
    assert not read_passes(tmp_path / "training.vram")["recording"].complete
    writer.abandon()


def test_a_folder_with_an_imported_snapshot(tmp_path: Path) -> None:
    write_recording(step_recording(), tmp_path / "snapshot.vram")
    assert_same(read_passes(tmp_path)["recording"], step_recording())


@pytest.mark.parametrize("name", ["", "nothing.vram"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match=r"no recording in this folder|no such file"):
        read_passes(tmp_path / name)
