"""A process or a machine that stops at any moment leaves a recording that opens, or is refused: never a wrong one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vramscope.errors import OutputError, RecordingError
from vramscope.recording.file import RecordingWriter, read_recording, write_recording

from .samples import assert_same, step_recording

PARTS = 3
# Runs before every change to the file system, so that each copy is what the change before it left behind.
RECORD = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from recording.samples import step_recording
from vramscope.recording.file import RecordingWriter

folder, copies, end = Path({folder!r}), Path({copies!r}), sys.argv[1]
CHANGES = {{"os.mkdir", "os.rename", "os.remove", "os.rmdir"}}
count, copying = 0, False

def copy(event, arguments):
    global count, copying
    opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
    if copying or not (opened or event in CHANGES):
        return
    copying = True
    shutil.copytree(folder, copies / f"{{count:03}}")
    count, copying = count + 1, False

sys.dont_write_bytecode = True
writer = None
sys.addaudithook(copy)
writer = RecordingWriter(folder / "a.vram")
for step in range({parts}):
    writer.append(step_recording(step))
getattr(writer, end)()
copy("os.rmdir", ())
"""


def record(folder: Path, copies: Path, end: str) -> list[Path]:
    """Record in another process; copies of the folder between any two changes, in order."""
    tests = os.fspath(Path(__file__).parent.parent)
    code = RECORD.format(tests=tests, folder=os.fspath(folder), copies=os.fspath(copies), parts=PARTS)
    subprocess.run([sys.executable, "-c", code, end], check=True)
    return sorted(copies.iterdir())


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    folder, copies = tmp_path / "folder", tmp_path / "copies"
    folder.mkdir()
    copies.mkdir()
    yield folder, copies


def cut_variants(copy: Path) -> Iterator[None]:
    """The state as it is, and with the file that was being written cut: its content had not reached the disk."""
    yield
    for file in copy.rglob("*.tmp"):
        content = file.read_bytes()
        for length in (0, len(content) // 2):
            file.write_bytes(content[:length])
            yield
        file.write_bytes(content)


def parts_in(path: Path) -> int:
    """How many parts a recording opens with; 0 where it is refused."""
    try:
        recording = read_recording(path)
    except RecordingError:
        return 0
    parts = recording.scopes.value.tolist()
    assert parts == list(range(len(parts)))
    assert len(recording.events) == 6 * len(parts)
    assert recording.complete == path.is_file()
    return len(parts)


def committed(folder: Path) -> int:
    """The parts that the folder's own files say are whole, counted without the reader."""
    return len(list(folder.glob("part-*.json"))) if (folder / "meta.json").exists() else 0


def test_every_crash_point_of_a_recording_opens_up_to_its_last_whole_part(folders: tuple[Path, Path]):
    seen = []
    for copy in record(*folders, "seal"):
        for _ in cut_variants(copy):
            unsealed = committed(copy / "a.vram.part")
            assert parts_in(copy / "a.vram.part") == unsealed
            sealed = (copy / "a.vram").exists()
            assert parts_in(copy / "a.vram") == (PARTS if sealed else unsealed)
        seen.append((sealed, unsealed))
    # one part more each time, then the sealed file, then the folder goes: first of all what makes it readable
    assert list(dict.fromkeys(seen)) == [*((False, parts) for parts in range(4)), (True, 3), (True, 0)]


def test_every_crash_point_keeps_the_old_file_until_the_new_one_is_whole(folders: tuple[Path, Path]):
    old = replace(step_recording(), notes=("old",))
    write_recording(old, folders[0] / "a.vram")
    notes = []
    for copy in record(*folders, "seal"):
        for _ in cut_variants(copy):
            notes.append(read_recording(copy / "a.vram").notes)
    assert list(dict.fromkeys(notes)) == [("old",), ("made by hand",)]


def test_every_crash_point_of_abandoning_is_refused_or_opens(folders: tuple[Path, Path]):
    write_recording(replace(step_recording(), notes=("old",)), folders[0] / "a.vram")
    copies = record(*folders, "abandon")
    for copy in copies:
        assert parts_in(copy / "a.vram.part") == committed(copy / "a.vram.part")
        assert read_recording(copy / "a.vram").notes == ("old",)
    assert [entry.name for entry in copies[-1].iterdir()] == ["a.vram"]


def test_every_crash_point_can_be_recorded_over(folders: tuple[Path, Path]):
    for copy in record(*folders, "seal"):
        write_recording(step_recording(5), copy / "a.vram")
        assert [entry.name for entry in copy.iterdir()] == ["a.vram"]
        assert_same(read_recording(copy / "a.vram"), step_recording(5))


def test_files_are_on_the_disk_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # a rename may reach the disk before the content does: after a power failure the name would stand for an empty file
    done: list[tuple[str, int]] = []
    sync, rename = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        done.append(("synced", os.fstat(descriptor).st_ino))

    def noted_rename(source: Path, target: Path) -> None:
        done.append(("renamed", source.stat().st_ino))
        rename(source, target)
        done.append(("into", target.parent.stat().st_ino))

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_rename)
    write_recording(step_recording(), tmp_path / "a.vram")
    renames = [index for index, (what, _) in enumerate(done) if what == "renamed"]
    assert len(renames) == 4  # meta, part, its mark, the sealed file
    for index in renames:
        assert done[index - 1] == ("synced", done[index][1])
        assert done[index + 2] == ("synced", done[index + 1][1])


HOLD = """
import os, sys
sys.path.insert(0, {tests!r})
from recording.samples import step_recording
from vramscope.recording.file import RecordingWriter
writer = RecordingWriter({path!r})
writer.append(step_recording(0))
writer.append(step_recording(1))
print("recording", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the midst of recording to ``a.vram``."""
    tests = os.fspath(Path(__file__).parent.parent)
    code = HOLD.format(tests=tests, path=os.fspath(tmp_path / "a.vram"))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recording\n"
        yield process
        process.kill()


def test_a_killed_process_leaves_its_whole_parts(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_recording(tmp_path / "a.vram").scopes.value.tolist() == [0, 1]


def test_a_second_writer_is_refused_until_the_first_dies(tmp_path: Path, holder: subprocess.Popen[str]):
    with pytest.raises(OutputError, match=r"a\.vram\.part: another vramscope is recording into it"):
        RecordingWriter(tmp_path / "a.vram")
    assert parts_in(tmp_path / "a.vram.part") == 2
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    write_recording(step_recording(), tmp_path / "a.vram")
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_what_a_killed_writer_left_is_no_part_of_the_next_recording(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording(7))
        assert read_recording(tmp_path / "a.vram.part").scopes.value.tolist() == [7]  # and not the steps 0 and 1


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.vram") as writer:
        with pytest.raises(OutputError, match="another vramscope"):
            RecordingWriter(tmp_path / "a.vram")
        writer.append(step_recording())
    assert_same(read_recording(tmp_path / "a.vram"), step_recording())


def test_a_forked_child_leaves_its_parents_recording_alone(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.vram") as writer:
        writer.append(step_recording(0))
        child = os.fork()
        if not child:
            refused = False
            try:
                writer.append(step_recording(1))
            except RuntimeError:
                refused = True
            writer.__exit__(None, None, None)
            os._exit(0 if refused else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        writer.append(step_recording(1))
    assert parts_in(tmp_path / "a.vram") == 2


def test_a_copied_folder_is_a_recording(tmp_path: Path, holder: subprocess.Popen[str]):
    shutil.copytree(tmp_path / "a.vram.part", tmp_path / "elsewhere")
    assert parts_in(tmp_path / "elsewhere") == 2
