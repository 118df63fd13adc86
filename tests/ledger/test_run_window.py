"""One window of a script's run, to be drawn."""

from pathlib import Path

import pytest
from tests.run.synthetic import step_of_run

from vramscope.errors import UsageError
from vramscope.ledger.comparison import RunWindow
from vramscope.ledger.run_window import compare_window
from vramscope.recording.file import RecordingWriter, iterate_windows


def test_a_window_that_holds_nothing_is_refused_with_all_that_do(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.vram")
    for number in (1, 3):
        writer.append(step_of_run(number, 401, 0), number)
    writer.seal()
    for absent in (0, 2):
        with pytest.raises(UsageError, match=f"--window {absent}: the recording has windows 1, 3$"):
            compare_window(iterate_windows(tmp_path / "run.vram"), absent)
    found = compare_window(iterate_windows(tmp_path / "run.vram"), 3)
    assert list(found.passes) == ["training"]
    assert found.window == RunWindow(3, 4, 4)  # the steps of these runs count from 1
