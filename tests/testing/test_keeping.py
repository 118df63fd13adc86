"""Where a test's recording goes."""

from pathlib import Path

import pytest

from views import samples
from vramscope.errors import OutputError
from vramscope.recording.file import read_recording
from vramscope.testing.keeping import file_name, keep_recording


def test_the_recording_can_be_read_again(tmp_path: Path) -> None:
    place = keep_recording("tests/test_a.py::test_b[1]", samples.training(), tmp_path / "new" / "report")
    assert len(read_recording(tmp_path / "new" / "report" / place).events) == len(samples.training().events)


@pytest.mark.parametrize("name", ["a/b.py::c[../../x]", "a\x00\n\u202e", "\ud800", "x" * 5000, "</script>"])
def test_a_file_name_is_short_and_plain(name: str) -> None:
    found = file_name(name)
    assert len(found) < 120
    assert found.isascii()
    assert not set(found) & set("/\\ \n\0<>:[]")


def test_names_that_read_alike_have_files_of_their_own() -> None:
    assert file_name("test[a/b]") != file_name("test[a b]")


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        keep_recording("x", samples.training(), tmp_path)
