"""Which values are known while tensors are fake."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vramscope.recorders.virtual.recorder import VirtualRecorder


def run_on_fakes(made: Callable[[], Tensor]) -> Tensor:
    recorder = VirtualRecorder()
    recorder.start()
    try:
        return made()
    finally:
        recorder.abandon()


def written_through_data() -> Tensor:
    first, second = torch.ones(3), torch.zeros(3)
    first.data = second
    first.add_(torch.rand(3))
    return second


KNOWN = {
    "of known numbers": lambda: torch.arange(3)[:, None] >= torch.arange(2),
    "a view": lambda: torch.zeros(2, 3).t()[1:],
    "made like whole numbers": lambda: torch.ones_like(torch.empty(3, dtype=torch.int64)),
    "chosen by known ones": lambda: torch.eye(4)[torch.ones(2, dtype=torch.int64)],
    "asked for by value": lambda: torch.nonzero(torch.eye(2)),
}
UNKNOWN = {
    "of data": lambda: torch.ones(3) * torch.rand(3),
    "chosen by data": lambda: torch.zeros(8)[torch.rand(3, 4).argmax(1)],
    "put among data": lambda: torch.select_scatter(torch.zeros(8, 2), torch.rand(2), 0, 2),
    "not written to": lambda: torch.ones(3).new_empty(4),
    "random": lambda: torch.bernoulli(torch.ones(3)),
    "written to through data": written_through_data,
    "made like data": lambda: torch.zeros_like(torch.rand(3)),
    # 1,048,576 elements of 1,024 each
    "of known numbers, but many": lambda: torch.arange(1024)[:, None] >= torch.arange(1024),
}


@pytest.mark.parametrize("made", KNOWN.values(), ids=KNOWN)
def test_what_is_made_of_known_numbers_alone_is_known(made: Callable[[], Tensor]) -> None:
    torch.testing.assert_close(run_on_fakes(made).constant, made())


@pytest.mark.parametrize("made", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_made_of_known_numbers_alone_is_not(made: Callable[[], Tensor]) -> None:
    assert run_on_fakes(made).constant is None
