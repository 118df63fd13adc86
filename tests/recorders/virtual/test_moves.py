"""What lies in the host's memory where fakes stand for a GPU's."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vramscope.predict.cuda_rules import cuda_rules
from vramscope.predict.gpus import find_gpu
from vramscope.recorders.virtual.recorder import VirtualRecorder

DEVICE = torch.device("cpu")
"""Where fakes of a GPU's tensors lie."""


@pytest.fixture
def recorder() -> Iterator[VirtualRecorder]:
    recorder = VirtualRecorder(cuda_rules(find_gpu("t4-16gb")), keep_real=False)
    recorder.start()
    yield recorder
    recorder.abandon()


@pytest.mark.parametrize(
    ("move", "sizes"),
    [
        (lambda host, x: host, []),
        (lambda host, x: host.to("cpu"), []),
        (lambda host, x: host.to(x.device), [8000]),  # 1000 float64
        (lambda host, x: host.to(device=x.device), [8000]),
        (lambda host, x: host.to(x), [4000]),  # in the other's type too
        (lambda host, x: host.to(x.device).to(x.device), [8000]),  # it is there
    ],
)
def test_an_array_takes_memory_of_the_gpu_once_it_is_moved_there(recorder, move, sizes):
    given = torch.randn(2)
    before = recorder.moment
    moved = move(torch.from_numpy(np.ones(1000)), given)
    assert recorder.sizes_since(before) == sizes
    assert moved.shape == (1000,)


def test_tensors_move_as_ever_afterwards(recorder):
    recorder.abandon()
    host = torch.from_numpy(np.ones(3))
    assert host.to(DEVICE) is host
