"""Files that are there whole or not at all."""

import os
from pathlib import Path

import pytest

from vramscope.errors import OutputError
from vramscope.views.atomic import atomic_path


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "file").exists()
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"file": "whole"}


def test_after_a_failure_the_old_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"file": "old"}


def test_a_pipe_without_a_name_is_written_to() -> None:
    reading, writing = os.pipe()  # as `/dev/stdout` is, where a command's output is read by another one
    with atomic_path(Path(f"/dev/fd/{writing}")) as path:
        path.write_text("whole")
    os.close(writing)
    assert os.read(reading, 10) == b"whole"
    os.close(reading)


@pytest.mark.parametrize("place", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
@pytest.mark.parametrize("flags", [os.O_APPEND, 0], ids=["appended to", "written from the start"])
def test_an_open_file_is_written_to_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, flags: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("before ")
    descriptor = os.open("file", os.O_WRONLY | flags)
    Path("link").symlink_to(f"/dev/fd/{descriptor}")
    os.write(descriptor, b"BEFORE ")
    with atomic_path(Path(place.format(descriptor))) as path:
        path.write_text("whole ")
    os.write(descriptor, b"after")
    os.close(descriptor)
    assert Path("file").read_text() == ("before BEFORE whole after" if flags else "BEFORE whole after")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "link"]


def test_a_reader_who_has_seen_enough_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with atomic_path(Path(f"/dev/fd/{writing}")) as path:
        path.write_text("whole")
    os.close(writing)


def test_after_a_failure_nothing_is_written_to_an_open_file(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(KeyboardInterrupt), atomic_path(Path(f"/dev/fd/{descriptor}")) as path:
        path.write_text("half")
        raise KeyboardInterrupt
    os.close(descriptor)
    assert (tmp_path / "file").read_text() == ""


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: No space left on device"), atomic_path(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
