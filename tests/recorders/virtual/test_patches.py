"""What torch does with fake tensors that a prediction cannot leave to it."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vramscope.recorders.virtual.recorder import VirtualRecorder


@pytest.fixture
def recorder() -> Iterator[VirtualRecorder]:
    recorder = VirtualRecorder()
    recorder.start()
    yield recorder
    recorder.abandon()


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # by torch, to copy one
def test_a_copied_layer_is_of_the_same_mode(recorder: VirtualRecorder) -> None:
    """A copy of the mode would give back references to storages that it never took: the process would crash later."""
    torch.tensor(3.0)  # a number that the mode keeps, by such a reference
    layer = nn.Linear(4, 4)
    before = recorder.moment
    copied = copy.deepcopy(layer)
    assert isinstance(layer.weight, FakeTensor) and isinstance(copied.weight, FakeTensor)
    assert copied.weight.fake_mode is layer.weight.fake_mode
    assert sum(recorder.sizes_since(before)) == 4 * 4 * 4 + 4 * 4  # weight and bias, and nothing that stays besides


def test_modes_can_be_copied_as_before_afterwards(recorder: VirtualRecorder) -> None:
    recorder.abandon()
    assert not hasattr(FakeTensorMode, "__deepcopy__")


def test_a_number_is_written_out_as_for_real(recorder: VirtualRecorder) -> None:
    """Keys such as ``expert_1`` are made so."""
    unknown = torch.randint(4, (3,)).max()
    assert (f"expert_{unknown}", f"{torch.tensor(2.5):.2f}") == ("expert_1", "2.50")
    assert "read from a tensor" in recorder.notes[0]
    assert "FakeTensor" in f"{nn.Parameter(torch.ones(()))}"  # of a subclass torch writes no number
