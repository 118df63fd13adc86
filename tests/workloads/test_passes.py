"""What is said of how a pass was run."""

import pytest

from helpers import record_pass

LOSS = """
import torch
from torch import nn
from vramscope import Workload


class Margins(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes = nn.Parameter(torch.zeros(3, 4))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs @ self.classes.T * self.scale, targets)


def build(trains_all: bool, **how):
    model, loss = nn.Linear(6, 4), Margins()
    held = [*model.parameters(), loss.classes] if trains_all else model.parameters()
    targets = torch.zeros(5, dtype=torch.int64)
    return Workload(model, torch.randn(5, 6), loss, targets=targets, optimizer=lambda _: torch.optim.SGD(held))


def apart():
    return build(False)


def together():
    return build(True)
"""
NOT_TRAINED = "the loss has parameters of its own, which no optimizer trains"


@pytest.mark.parametrize(("factory", "is_said"), [("apart", True), ("together", False)])
def test_it_is_said_where_no_optimizer_trains_a_loss_s_own_parameters(factory, is_said, tmp_path):
    path = tmp_path / "margins.py"
    path.write_text(LOSS, encoding="utf-8")
    notes = record_pass(f"{path}:{factory}", steps=1).recording.notes
    assert any(note.startswith(NOT_TRAINED) for note in notes) is is_said
