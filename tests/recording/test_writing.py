"""What the operating system refuses while a recording is written: one line, and nothing half-written left behind."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.processes import unmeasured

from vramscope.errors import OutputError
from vramscope.recording.file import RecordingWriter, discard_recording, drop_empty, read_recording, write_recording

from .samples import assert_same, step_recording


def refusal(path: Path) -> str:
    """The one line with which a recording is not written."""
    with pytest.raises(OutputError) as caught:
        write_recording(step_recording(), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path):
    path = tmp_path / "none" / "a.vram"
    assert refusal(path) == (
        f"{path}: cannot be written (no such file or directory): create that folder first, or choose another"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_at_the_path_is_refused(tmp_path: Path):
    (tmp_path / "a.vram").mkdir()
    assert refusal(tmp_path / "a.vram") == f"{tmp_path / 'a.vram'}: exists and is no file: choose another output name"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vram"]


def test_a_pipe_at_the_path_is_refused(tmp_path: Path):
    # as is a device: renaming a file to it would replace the device itself, if the user may
    os.mkfifo(tmp_path / "a.vram")
    assert refusal(tmp_path / "a.vram") == f"{tmp_path / 'a.vram'}: exists and is no file: choose another output name"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vram"]


def test_a_file_for_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.vram"
    assert refusal(path) == f"{path}: cannot be written (not a directory): choose another folder"


def test_a_file_for_the_part_folder_is_refused(tmp_path: Path):
    (tmp_path / "a.vram.part").touch()
    assert refusal(tmp_path / "a.vram") == (
        f"{tmp_path / 'a.vram'}: cannot be written (file exists): choose another name"
    )


def test_a_name_that_is_too_long_is_refused(tmp_path: Path):
    # 255 bytes are allowed; with .part it is longer
    path = tmp_path / ("a" * 250 + ".vram")
    assert refusal(path) == f"{path}: cannot be written (file name too long): choose a shorter name"


def test_foreign_files_in_the_part_folder_are_kept(tmp_path: Path):
    folder = tmp_path / "a.vram.part"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    (folder / "meta.json").write_text("mine too")
    assert refusal(tmp_path / "a.vram") == (
        f"{folder}: holds thesis.txt, which is not vramscope's: choose another output name"
    )
    assert sorted(entry.name for entry in folder.iterdir()) == ["meta.json", "thesis.txt"]
    (folder / "thesis.txt").unlink()
    write_recording(step_recording(), tmp_path / "a.vram")  # whoever was refused holds nothing
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_no_file_stays_open(tmp_path: Path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with RecordingWriter(tmp_path / "a.vram") as writer:
        with pytest.raises(OutputError):
            RecordingWriter(tmp_path / "a.vram")
        writer.append(step_recording())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_makes_a_folder_a_recording_is_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    removed, unlink = [], Path.unlink

    def note(file: Path) -> None:
        removed.append(file.name)
        unlink(file)

    monkeypatch.setattr(Path, "unlink", note)
    write_recording(step_recording(), tmp_path / "a.vram")
    assert removed[0] == "meta.json"
    assert len(removed) > 1


def test_files_put_into_the_part_folder_meanwhile_are_kept(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording())
        (tmp_path / "a.vram.part" / "thesis.txt").write_text("mine")
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())
    assert [entry.name for entry in (tmp_path / "a.vram.part").iterdir()] == ["thesis.txt"]


def test_a_read_only_folder_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("permissions do not bind this user")
        path = tmp_path / "a.vram"
        expected = f"{path}: cannot be written (permission denied): choose a folder you may write to"
        assert refusal(path) == expected
    finally:
        tmp_path.chmod(0o700)


def test_an_existing_recording_is_replaced_at_the_end(tmp_path: Path):
    write_recording(step_recording(0), tmp_path / "a.vram")
    with RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording(1))
        assert_same(read_recording(tmp_path / "a.vram"), step_recording(0))
    assert_same(read_recording(tmp_path / "a.vram"), step_recording(1))


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.vram").symlink_to(tmp_path / "real" / "a.vram")
    write_recording(step_recording(), tmp_path / "link.vram")
    assert (tmp_path / "link.vram").is_symlink()
    assert_same(read_recording(tmp_path / "real" / "a.vram"), step_recording())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.vram", "real"]


def test_an_unsealed_recording_is_read_behind_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.vram").symlink_to(tmp_path / "real" / "a.vram")
    writer = RecordingWriter(tmp_path / "link.vram")
    writer.append(step_recording())
    assert read_recording(tmp_path / "link.vram").notes[0] == step_recording().notes[0]
    writer.abandon()


def test_nothing_recorded_is_not_written(tmp_path: Path):
    with (
        pytest.raises(OutputError, match=r"a\.vram: not written: nothing was recorded"),
        RecordingWriter(tmp_path / "a.vram"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_crashed_recording_left_stays_until_something_is_recorded(tmp_path: Path):
    path = tmp_path / "a.vram"
    crashed = RecordingWriter(path)
    crashed.append(replace(step_recording(), notes=("crashed",)))
    copy = shutil.copytree(tmp_path / "a.vram.part", tmp_path / "copy")
    crashed.abandon()
    copy.rename(tmp_path / "a.vram.part")
    RecordingWriter(path).abandon()
    assert read_recording(path).notes[0] == "crashed"
    with RecordingWriter(path) as writer:
        assert read_recording(path).notes[0] == "crashed"
        writer.append(step_recording())
        assert read_recording(path).notes[0] == step_recording().notes[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vram"]


def test_a_recording_is_discarded_sealed_or_not(tmp_path: Path):
    path = tmp_path / "a.vram"
    discard_recording(path)
    write_recording(step_recording(), path)
    writer = RecordingWriter(path)
    writer.append(step_recording())
    with pytest.raises(OutputError, match="another vramscope is recording into it"):
        discard_recording(path)
    assert path.exists()
    writer._claim._unlock()  # as when its process is killed
    discard_recording(path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_dropped_unless_somebody_records_into_it(tmp_path: Path):
    path = tmp_path / "a.vram"
    drop_empty(path)
    writer = RecordingWriter(path)
    drop_empty(path)
    assert (tmp_path / "a.vram.part").is_dir()
    writer._claim._unlock()  # as when its process is killed
    drop_empty(path)
    assert list(tmp_path.iterdir()) == []


def test_a_crashed_recording_is_not_dropped(tmp_path: Path):
    writer = RecordingWriter(tmp_path / "a.vram")
    writer.append(step_recording())
    writer._claim._unlock()
    drop_empty(tmp_path / "a.vram")
    assert read_recording(tmp_path / "a.vram").notes[0] == step_recording().notes[0]


def test_files_put_into_the_part_folder_before_the_first_part_are_kept(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.vram") as writer:
        (tmp_path / "a.vram.part" / "thesis.txt").write_text("mine")
        writer.append(step_recording())
    assert (tmp_path / "a.vram.part" / "thesis.txt").read_text() == "mine"
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_an_exception_abandons_the_recording(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_the_caller_sealed_before_an_exception_stays(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording())
        writer.seal()
        raise KeyboardInterrupt
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_a_finished_writer_refuses_more_and_can_be_abandoned_again(tmp_path: Path):
    writer = RecordingWriter(tmp_path / "a.vram")
    writer.append(step_recording())
    writer.seal()
    writer.abandon()
    for action in (writer.seal, lambda: writer.append(step_recording())):
        with pytest.raises(RuntimeError, match="already sealed or abandoned"):
            action()
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_a_part_that_changed_on_disk_is_not_sealed(tmp_path: Path):
    writer = RecordingWriter(tmp_path / "a.vram")
    writer.append(step_recording())
    (tmp_path / "a.vram.part" / "part-00000.npz").write_bytes(b"changed")
    with pytest.raises(OutputError, match=r"a\.vram: not written: its part-00000\.npz was changed on disk"):
        writer.seal()
    assert list(tmp_path.iterdir()) == []


# A limit on the size of a file stands in for a full disk: both refuse in the middle of a write.
FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from recording.samples import step_recording
from recording.test_round_trip import large_recording
from vramscope.errors import OutputError
from vramscope.recording.file import RecordingWriter
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
writer = RecordingWriter({path!r})
try:
    for step in range({parts}):
        writer.append(large_recording(2000))
    print("appended", flush=True)
    writer.seal()
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limit", "parts", "where"),
    [(100, 1, []), (5000, 1, []), (60_000, 3, ["appended"])],
    ids=["in meta.json", "in a part", "in the sealed file"],
)
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path, limit: int, parts: int, where: list[str]):
    path = tmp_path / "a.vram"
    write_recording(step_recording(), path)
    tests = os.fspath(Path(__file__).parent.parent)
    code = FULL.format(tests=tests, path=os.fspath(path), limit=limit, parts=parts)
    # coverage's own file would meet the limit too
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=unmeasured())
    expected = (
        f"{path}: cannot be written (file too large): choose a folder whose file system and limits allow larger files"
    )
    assert result.stdout.splitlines() == [*where, expected]
    assert result.stderr == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vram"]
    assert_same(read_recording(path), step_recording())


def test_a_disk_without_space_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    path = tmp_path / "a.vram"
    expected = f"{path}: cannot be written (no space left on device): free some space, or choose another folder"
    assert refusal(path) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_folders_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sync = os.fsync

    def sync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files_only)
    write_recording(step_recording(), tmp_path / "a.vram")
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())
