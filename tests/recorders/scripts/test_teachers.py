"""Which forwards without gradients are taken for a part of the training that is to come."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor, nn

from vramscope.recorders.scripts.made_optimizers import parameters_of
from vramscope.recorders.scripts.teachers import _PATIENCE, Teachers


def test_a_model_beside_the_one_that_is_to_be_trained_is_waited_for_a_while() -> None:
    teacher, student = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    teachers = Teachers(lambda: [optimizer])
    assert [teachers.teaches(teacher) for _ in range(_PATIENCE + 2)] == [True] * _PATIENCE + [False] * 2


def test_a_model_that_is_itself_to_be_trained_is_evaluated() -> None:
    model = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(trained.parameters(), 0.1) for trained in (model, other)]
    assert not Teachers(lambda: optimizers).teaches(model)


class Within(torch.autograd.Function):
    """Runs something without gradients where the forward of a function of autograd would."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: list[bool], run: Callable[[], bool]) -> Tensor:
        found.append(run())
        return x.clone()


@pytest.mark.parametrize("is_trained", [True, False])
def test_what_a_function_of_autograd_runs_belongs_to_the_training_of_its_model(is_trained: bool) -> None:
    model = nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(model.parameters(), 0.1)] if is_trained else []
    teachers = Teachers(lambda: optimizers)
    found: list[bool] = []
    for _ in range(_PATIENCE + 2):
        Within.apply(torch.ones(1, requires_grad=True), found, lambda: teachers.teaches(model))
    assert found == [is_trained] * (_PATIENCE + 2)
    assert not teachers.teaches(model)


def test_what_a_function_of_autograd_runs_where_nothing_is_differentiated_is_waited_for_a_while() -> None:
    model = nn.Linear(2, 2)
    teachers = Teachers(lambda: [torch.optim.SGD(model.parameters(), 0.1)])
    found: list[bool] = []
    with torch.no_grad():
        for _ in range(_PATIENCE + 2):
            Within.apply(torch.ones(1, requires_grad=True), found, lambda: teachers.teaches(model))
    assert found == [True] * _PATIENCE + [False] * 2


class LettingGo(torch.autograd.Function):
    """Runs something without gradients, and notes whether what it has let go of since is still alive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: list[bool], run: Callable[[], bool], keeps: bool) -> Tensor:
        hidden = x * 2
        alive = ref(hidden)
        kept = locals() if keeps else {}
        run()
        del hidden
        found.append(alive() is not None)
        assert not keeps or kept["x"] is x
        return x.clone()


@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_function_of_autograd_lets_go_of_is_gone(keeps: bool) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found: list[bool] = []
    LettingGo.apply(torch.ones(1), found, lambda: Teachers(lambda: [optimizer]).teaches(model), keeps)
    assert found == [keeps]


def test_without_optimizers_nothing_is_waited_for() -> None:
    assert not Teachers(list).teaches(nn.Linear(2, 2))


def test_an_optimizer_that_was_never_finished_waits_for_nothing() -> None:
    assert parameters_of(torch.optim.SGD.__new__(torch.optim.SGD)) == set()
