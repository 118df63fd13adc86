"""Which conditions over numbers that nobody knows are taken to hold."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vramscope.recorders.virtual.recorder import VirtualRecorder


@pytest.fixture
def numbers() -> Iterator[Tensor]:
    """Four numbers that only data would tell."""
    recorder = VirtualRecorder()
    recorder.start()
    yield torch.randn(4)
    recorder.abandon()


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: (x > 0).all(),
        lambda x: (x > 0).view(2, 2).all(1).all(),
        lambda x: (x > 0).view(2, 2).all(0)[1],
        lambda x: torch._is_all_true(x > 0),
        lambda x: (x > 0).all() & (x < 1).all(),
        lambda x: (x > 0).all() | (x < 1).any(),
        lambda x: (x > 0).all().cpu().clone(),
        lambda x: ~(x > 0).any(),
        lambda x: (x > 0).any() == False,  # noqa: E712  # as models write it
        lambda x: torch.isfinite(x).all(),
        lambda x: torch.isfinite(x[0]),
        lambda x: x.isnan().sum() == 0,
        lambda x: torch.isinf(x).count_nonzero() == 0,
    ],
)
def test_what_a_program_insists_on_holds(numbers, condition):
    assert bool(condition(numbers))


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x[0] > 0,
        lambda x: (x > 0).any(),
        lambda x: (x > 0).sum() == 0,
        lambda x: ~(x > 0).all(),
        lambda x: (x > 0).all() & (x[0] < 1),
        lambda x: torch.isnan(x).any(),
        lambda x: torch.isinf(x[0]),
        lambda x: x.isnan().sum().item(),
        lambda x: (x > 0).all().logical_not_(),
        lambda x: torch.equal(x, x.flip(0)),
        lambda x: torch.allclose(x, x.flip(0)),
    ],
)
def test_any_other_condition_does_not(numbers, condition):
    assert not condition(numbers)
