"""Hooks on one module, wherever the module goes."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vramscope.recorders.hooks import hook_module, without_single_hooks

Told = list[tuple[Any, ...]]


class Doubling(nn.Module):
    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        if times < 0:
            raise ValueError("no")
        return x * 2 * times


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def hooked(told: Told) -> Iterator[nn.Module]:
    """A module whose calls are told of, beside a hook of the program's own that was there before."""
    module = Doubling()
    module.register_forward_pre_hook(lambda *_: told.append(("own",)))
    handles = hook_module(
        module,
        lambda one, args, kwargs: told.append(("begins", one, args, kwargs)),
        lambda one, args, output: told.append(("ended", one, args, output)),
    )
    yield module
    for handle in handles:
        handle.remove()
    told.clear()
    module(torch.ones(2))
    assert told == [("own",)]


def test_a_call_is_told_of_around_the_programs_own_hooks(hooked: nn.Module, told: Told) -> None:
    x = torch.ones(2)
    output = hooked(x, times=3)
    assert told == [("begins", hooked, (x,), {"times": 3}), ("own",), ("ended", hooked, (x,), output)]


def test_a_call_that_raises_has_ended_too(hooked: nn.Module, told: Told) -> None:
    x = torch.ones(2)
    with pytest.raises(ValueError, match="no"):
        hooked(x, -1)
    assert told[-1] == ("ended", hooked, (x, -1), None)


def test_a_copy_tells_nothing(hooked: nn.Module, told: Told) -> None:
    assert copy.deepcopy(hooked)(torch.ones(2)).tolist() == [2, 2]
    assert told == [("own",)]


def test_what_was_saved_and_loaded_tells_nothing(told: Told) -> None:
    module, file = Doubling(), io.BytesIO()
    handles = hook_module(module, told.append, told.append)
    torch.save(module, file)
    for handle in handles:
        handle.remove()
    file.seek(0)
    assert torch.load(file, weights_only=False)(torch.ones(2)).tolist() == [2, 2]
    assert told == []


def test_torchscript_finds_the_programs_own_hooks_alone(hooked: nn.Module, told: Told) -> None:
    outer = nn.Sequential(hooked, torch.jit.script(nn.ReLU()))

    def create(module: nn.Module, word: str) -> list[int]:
        assert (module, word) == (outer, "as given")
        module(torch.ones(2))
        return [len(hooked._forward_pre_hooks), len(hooked._forward_hooks)]

    assert without_single_hooks(create)(outer, "as given") == [1, 0]
    assert told == [("own",)]
    told.clear()
    hooked(torch.ones(2))
    assert [word for word, *_ in told] == ["begins", "own", "ended"]  # in the order of before


def test_what_torchscript_refuses_leaves_the_hooks(hooked: nn.Module, told: Told) -> None:
    def refuse(module: nn.Module) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        without_single_hooks(refuse)(hooked)
    hooked(torch.ones(2))
    assert len(told) == 3
