"""Optimizers that are known from when they are made on."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

from vramscope.recorders.scripts.made_optimizers import MadeOptimizers


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as undo:
        yield undo


def optimizer() -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], 0.1)


def test_what_is_made_copied_and_unpickled_is_known(undo: ExitStack) -> None:
    older = optimizer()
    made = MadeOptimizers(undo)
    later = [optimizer(), copy.deepcopy(older), pickle.loads(pickle.dumps(older))]
    assert all(one is other for one, other in zip(made.alive(), later, strict=True))


def test_what_another_thread_makes_is_known(undo: ExitStack) -> None:
    made, kept = MadeOptimizers(undo), []
    thread = Thread(target=lambda: kept.append(optimizer()))
    thread.start()
    thread.join()
    assert made.alive() == kept


def test_one_that_loads_its_state_is_known_once(undo: ExitStack) -> None:
    made, only = MadeOptimizers(undo), optimizer()
    only.load_state_dict(only.state_dict())
    assert made.alive() == [only]


def test_nothing_is_kept_alive(undo: ExitStack) -> None:
    made = MadeOptimizers(undo)
    for _ in range(3):
        optimizer()
    assert (made.alive(), made._made) == ([], {})


def test_torch_is_as_it_was_when_that_is_over() -> None:
    before = Optimizer._patch_step_function
    with ExitStack() as undo:
        made = MadeOptimizers(undo)
        assert Optimizer._patch_step_function is not before
    assert Optimizer._patch_step_function is before
    later = Adam([torch.zeros(1, requires_grad=True)])
    assert later not in made.alive()


def test_what_the_script_puts_there_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as undo:
        made, calls = MadeOptimizers(undo), []
        watched = Optimizer._patch_step_function
        with monkeypatch.context() as script:
            script.setattr(Optimizer, "_patch_step_function", lambda self: (calls.append(1), watched(self))[1])
            own = Optimizer._patch_step_function
            undo.close()
            assert Optimizer._patch_step_function is own
            only = optimizer()
        script.undo()
    assert (len(calls), made.alive()) == (1, [only])
