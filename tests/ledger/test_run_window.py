"""One window of a script's run, to be drawn."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.run.synthetic import LEAKED_BYTES, step_of_run

from vramscope.errors import UsageError
from vramscope.ledger import run_window
from vramscope.ledger.comparison import RunWindow
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.run_window import compare_window, last_window
from vramscope.recording.file import RecordingWriter, iterate_windows
from vramscope.recording.parts import Part

EVENTS = 401


def part(index: int, window: int = 0, name: str = "training") -> Part:
    """A step of 401 events, which counts from 1."""
    recording = step_of_run(index, EVENTS, index * LEAKED_BYTES)
    return Part(index, window, replace(recording, workload={**recording.workload, "pass": name}))


def steps_of(ledger: Ledger) -> list[int]:
    return [step.value for step in ledger.steps]


def test_a_window_has_all_of_its_steps() -> None:
    found = compare_window([part(0), part(1), part(2, window=1)], 0)
    assert (steps_of(found.ledgers["training"]), found.window) == ([1, 2], RunWindow(0, 1, 2))


@pytest.mark.parametrize(
    ("passes", "training"), [("tittt", [3, 4, 5]), ("tttit", [1, 2, 3]), ("ttitt", [1, 2])], ids=str
)
def test_of_a_pass_that_the_script_came_back_to_the_longest_stretch_is_shown(passes: str, training: list[int]) -> None:
    names = {"t": "training", "i": "inference"}
    found = compare_window([part(index, name=names[letter]) for index, letter in enumerate(passes)], 0)
    assert steps_of(found.ledgers["training"]) == training
    assert len(steps_of(found.ledgers["inference"])) == 1


def test_a_window_with_too_many_events_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_window, "MOST_EVENTS", 2 * EVENTS)
    parts = [part(0), part(1), part(2, window=1), part(3, window=1), part(4, window=1)]
    assert compare_window(parts, 0).window == RunWindow(0, 1, 2)
    with pytest.raises(UsageError, match="window 1 has more than 802 events, too many for this format"):
        compare_window(parts, 1)


def test_what_comes_after_a_window_is_not_read() -> None:
    def parts() -> Iterator[Part]:
        yield part(0)
        yield part(1, window=1)
        raise AssertionError("read on")

    assert compare_window(parts(), 0).window == RunWindow(0, 1, 1)


def test_the_last_window_is_one_recording() -> None:
    found = last_window([part(index, window=index // 2) for index in range(4)])
    assert steps_of(Ledger(found)) == [3, 4]
    assert len(found.events) == 2 * EVENTS


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
