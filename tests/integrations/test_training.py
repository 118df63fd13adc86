"""What every library's callback stands on, in a loop of plain torch."""

import io
import sys
from pathlib import Path

import pytest
import torch
from tests.integrations.exact import require_run
from torch import nn

from vramscope.integrations.training import TrainingRecorder


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


def test_a_reader_of_the_report_that_has_gone_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = TrainingRecorder(tmp_path / "train.vram", first=1, last=4, rearm=False, report=True)
    recorder.start()
    train(6)
    monkeypatch.setattr(sys, "stderr", Deserted())
    recorder.stop()
    summary = require_run(recorder.summary, tmp_path / "train.vram")
    assert [step.index for step in summary.steps] == [1, 2, 3]
