"""Passes that cannot be recorded."""

import pytest
import torch
from torch import Tensor, nn

from vramscope.errors import WorkloadError
from vramscope.experiments.frame import Settings
from vramscope.experiments.profiled import Subject, profile_training
from vramscope.workloads.workload import Workload


class Exhausting(nn.Module):
    """Runs out of memory in its first forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, _: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no memory left")


def test_a_pass_that_runs_out_of_memory_is_an_error_of_the_workload() -> None:
    subject = Subject("exhausting", lambda: Workload(Exhausting(), torch.zeros(1), lambda outputs: outputs.sum()))
    with pytest.raises(WorkloadError, match="memory"):
        profile_training(subject, Settings())
