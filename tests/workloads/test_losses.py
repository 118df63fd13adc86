from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vramscope.errors import WorkloadError
from vramscope.workloads.losses import cross_entropy, default_loss

LOGITS = torch.tensor([[1.0, 3.0], [5.0, 7.0]])


def test_cross_entropy_of_even_logits_is_the_log_of_the_classes() -> None:
    loss = cross_entropy(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.int64))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(4.0)).item())


@pytest.mark.parametrize(
    ("outputs", "value"),
    [
        (SimpleNamespace(loss=torch.tensor(2.5)), 2.5),
        (OrderedDict(logits=LOGITS, loss=torch.tensor(2.5)), 2.5),
        # (1 + 3 + 5 + 7) / 4
        (OrderedDict(logits=LOGITS, loss=None), 4.0),
        (LOGITS, 4.0),
        ((torch.tensor([1, 2]), {"deep": [LOGITS]}), 4.0),
    ],
)
def test_default_loss(outputs: Any, value: float) -> None:
    assert default_loss(outputs, None).item() == value


@pytest.mark.parametrize("outputs", [torch.tensor([1, 2]), None, {"text": "none"}])
def test_no_loss_to_be_had(outputs: Any) -> None:
    with pytest.raises(WorkloadError, match=r"no loss to be had: forward returned .*; give a Workload with loss="):
        default_loss(outputs, None)
