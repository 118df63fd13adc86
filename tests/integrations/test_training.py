"""What every library's callback stands on, in a loop of plain torch."""

import io
import sys
from pathlib import Path

import pytest
import torch
from tests.integrations.exact import require_run
from torch import nn

from vramscope.errors import UnsupportedError
from vramscope.integrations.training import TrainingRecorder
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
