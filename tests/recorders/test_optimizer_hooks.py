"""Whoever asks is told of optimizer steps, for as long as it wants."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from vramscope.recorders.optimizer_hooks import OptimizerHooks


def hooks_of_torch() -> int:
    return len(torch_optimizer._global_optimizer_pre_hooks) + len(torch_optimizer._global_optimizer_post_hooks)


@pytest.fixture
def optimizer() -> Iterator[torch.optim.Optimizer]:
    """One that can step; afterwards nobody listens who did not before."""
    before, parameter = hooks_of_torch(), nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    yield torch.optim.SGD([parameter])
    assert hooks_of_torch() == before


def listening(told: list[str], name: str, compiled: bool) -> OptimizerHooks:
    return OptimizerHooks(lambda *_: told.append(f"{name}+"), lambda *_: told.append(f"{name}-"), compiled)


@pytest.mark.parametrize("compiled", [True, False])
def test_all_who_ask_are_told_until_they_leave(optimizer: torch.optim.Optimizer, compiled: bool) -> None:
    told: list[str] = []
    first, second = (listening(told, name, compiled) for name in ("first", "second"))
    optimizer.step()
    assert told == ["first+", "second+", "first-", "second-"]
    first.remove()
    optimizer.step()
    assert told[4:] == ["second+", "second-"]
    second.remove()
    optimizer.step()
    assert len(told) == 6


@pytest.mark.parametrize("compiled", [True, False])
def test_the_frame_that_is_told_runs_as_long_as_the_step(optimizer: torch.optim.Optimizer, compiled: bool) -> None:
    files: list[str] = []
    hooks = OptimizerHooks(lambda _, frame: files.append(frame.f_code.co_filename), lambda _: None, compiled)
    optimizer.step()
    hooks.remove()
    assert files == [torch_optimizer.__file__]  # torch's wrapper around every step


def test_the_programs_own_hooks_are_part_of_an_eager_step(optimizer: torch.optim.Optimizer) -> None:
    told: list[str] = []
    hooks = [listening(told, "first", compiled=False)]
    own = register_optimizer_step_post_hook(lambda *_: told.append("own"))
    hooks.append(listening(told, "second", compiled=False))
    optimizer.step()
    for one in (own, *hooks):
        one.remove()
    assert told == ["first+", "second+", "own", "first-", "second-"]
