"""What the sample project tests of itself."""

import pytest
import torch
from model import WIDTH, build


@pytest.mark.limit_vram("1 MiB")
@pytest.mark.limit_vram_leaks("0 B")
def test_a_training_step() -> None:
    model = build()
    model(torch.ones(512, WIDTH)).sum().backward()
