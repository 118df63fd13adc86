"""What every library's callback stands on, in a loop of plain torch."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.integrations.exact import require_run
from torch import nn

from vramscope.errors import OutputError, UnsupportedError, UsageError
from vramscope.integrations.training import RecordsTraining, TrainingRecorder
from vramscope.recorders.scripts.surroundings import is_watched


class Deserted(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def train(steps: int) -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()


class Training:
    """Stands for what a library hands to the callbacks of one training."""


def recorder_of(path: Path) -> TrainingRecorder:
    return TrainingRecorder(path, first=1, last=4, rearm=False, report=False)


def recorded_steps(recorder: TrainingRecorder) -> list[int]:
    return [step.index for step in recorder.summary.steps] if recorder.summary is not None else []


def test_a_reader_of_the_report_that_has_gone_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = TrainingRecorder(tmp_path / "train.vram", first=1, last=4, rearm=False, report=True)
    recorder.start(Training())
    train(6)
    monkeypatch.setattr(sys, "stderr", Deserted())
    recorder.stop()
    summary = require_run(recorder.summary, tmp_path / "train.vram")
    assert [step.index for step in summary.steps] == [1, 2, 3]


def test_a_recording_whose_end_nobody_told_ends_when_the_next_one_begins(tmp_path: Path) -> None:
    first, second = (recorder_of(tmp_path / f"{name}.vram") for name in "ab")
    trainings = Training(), Training()
    first.start(trainings[0])
    train(3)
    second.start(trainings[1])
    assert recorded_steps(first) == [1, 2]
    assert first.summary is not None
    assert "another training began" in first.summary.notes[-1]
    train(6)
    second.stop()
    require_run(second.summary, tmp_path / "b.vram")
    assert recorded_steps(second) == [1, 2, 3]
    first.stop()  # late, and it must not end what is not its own
    assert recorded_steps(first) == [1, 2]


def test_one_training_is_recorded_once(tmp_path: Path) -> None:
    first, second = (recorder_of(tmp_path / f"{name}.vram") for name in "ab")
    training = Training()
    first.start(training)
    with pytest.raises(UnsupportedError, match="this training is being recorded already, by another vramscope"):
        second.start(training)
    first.stop()
    assert not is_watched()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (3, 2, "last=2: no step would be recorded from step 3 on; give .* at least 4, or None"),
        (3, 3, "last=3: no step"),
        (1, 2.5, "last=2.5: no step"),
        (-1, 4, "first=-1: this is no step's number"),
        ("a", 4, "first='a': this is no step's number"),
        (True, 4, "first=True: this is no step's number"),
    ],
)
def test_a_window_without_a_step_is_refused(tmp_path: Path, first: Any, last: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RecordsTraining(tmp_path / "train.vram", first=first, last=last)


def test_numbers_of_any_whole_type_are_taken(tmp_path: Path) -> None:
    recorder = TrainingRecorder(tmp_path / "a.vram", first=np.int64(1), last=np.int32(3), rearm=False, report=False)
    training = Training()
    recorder.start(training)
    train(4)
    recorder.stop()
    assert recorded_steps(recorder) == [1, 2]


def test_a_folder_is_refused_as_the_recording(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder; name a file, such as "):
        RecordsTraining(tmp_path)


@pytest.mark.parametrize("in_the_way", ["train.vram", "train.vram.part/meta.json"])  # by itself, and to the writer
def test_a_recording_that_cannot_be_written_ends_no_training(
    tmp_path: Path, in_the_way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder, original = recorder_of(tmp_path / "train.vram"), torch.optim.Optimizer._patch_step_function
    (tmp_path / in_the_way).mkdir(parents=True)  # after it was checked
    training = Training()
    recorder.start(training)
    train(3)
    recorder.stop()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("vramscope: this training is not recorded: ")
    assert torch.optim.Optimizer._patch_step_function is original
    assert not is_watched()
