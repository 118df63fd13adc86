"""Gradients that outlast their backward pass are labelled at its end; those that somebody takes are told of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from helpers import FLOAT32, Running, assert_agrees, recording_of
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.gradients import GradientLives
from vramscope.recorders.labels import label_model

FIRST, SECOND = 6 * 5, 5 * 6
"""Weights of the two layers, which have no biases."""


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 6, bias=False))


def hooks_of(model: nn.Module) -> list[int]:
    """How many callbacks wait for the gradient of each parameter."""
    return [len(parameter._post_accumulate_grad_hooks or ()) for parameter in model.parameters()]


@contextmanager
def watching(model: nn.Module) -> Iterator[Running]:
    with recording_of(seeds=label_model(model)) as running:
        running.recorder.watch(model)
        yield running


def most_gradients(ledger: Ledger) -> list[int]:
    """The most bytes of gradients at any one time in each step."""
    most = []
    for step in ledger.steps:
        moments = range(step.first, step.last)
        most.append(max(ledger.composition(moment)[Category.GRADIENTS] for moment in moments))
    return most


def take(parameter: Tensor) -> None:
    parameter.grad = None


def test_what_stays_for_a_whole_step_is_not_told_of_again_and_labelled_all_the_same():
    model, x = two_layers(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model) as running:
        told = []
        for index in range(3):
            with running.recorder.step(index):
                optimizer.zero_grad()
                told.append(hooks_of(model))
                model(x).sum().backward()
                optimizer.step()
    assert told == [[1, 1], [0, 0], [0, 0]]
    ledger = running.ledger
    assert most_gradients(ledger) == [(FIRST + SECOND) * FLOAT32] * 3
    assert_agrees(ledger)


def test_what_a_hook_takes_is_told_of_in_every_step():
    model, x = two_layers(), torch.randn(4, 6)
    with watching(model) as running:
        # registered after the recorder's own, so that it is told before
        model[0].weight.register_post_accumulate_grad_hook(take)
        told = []
        for index in range(3):
            with running.recorder.step(index):
                told.append(hooks_of(model))
                model(x).sum().backward()
                model[1].weight.grad = None
    assert told == [[2, 1], [2, 0], [2, 0]]
    assert most_gradients(running.ledger) == [(FIRST + SECOND) * FLOAT32] * 3


@pytest.mark.parametrize("passes", [2, 3])
def test_what_only_the_last_of_several_passes_takes_does_not_count_as_staying(passes: int):
    model, x = two_layers(), torch.randn(4, 6)
    count = 0

    def take_last(parameter: Tensor) -> None:
        nonlocal count
        count += 1
        if count % passes == 0:
            parameter.grad = None

    with watching(model) as running:
        model[0].weight.register_post_accumulate_grad_hook(take_last)
        for index in range(2):
            with running.recorder.step(index):
                for _ in range(passes):
                    model(x).sum().backward()
                model[1].weight.grad = None
        assert hooks_of(model) == [2, 0]
    # in the second pass what is added into the first layer's gradient is one itself for a moment
    assert most_gradients(running.ledger) == [(2 * FIRST + SECOND) * FLOAT32] * 2


def test_what_had_stayed_and_is_taken_is_said_and_told_of_from_then_on():
    model, x = two_layers(), torch.randn(4, 6)
    taking, held = False, list[Tensor | None]()

    def take_the_other(parameter: Tensor) -> None:
        if taking:
            held.append(model[1].weight.grad)
            model[1].weight.grad = None

    with watching(model) as running:
        model[0].weight.register_post_accumulate_grad_hook(take_the_other)  # the first layer's gradient comes last
        for index in range(3):
            taking = index > 0
            with running.recorder.step(index):
                model(x).sum().backward()
                model[0].weight.grad = model[1].weight.grad = None
                held.clear()
        assert hooks_of(model) == [1, 1]  # the test's own, and the recorder's
    ledger = running.ledger
    assert most_gradients(ledger) == [(FIRST + SECOND) * FLOAT32, FIRST * FLOAT32, (FIRST + SECOND) * FLOAT32]
    (note,) = ledger.recording.notes
    assert "1.weight's first" in note
    assert "activation_gradients" in note


def test_a_layer_that_a_later_step_leaves_out_is_no_matter():
    model, x = two_layers(), torch.randn(4, 6)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                (model(x) if index == 0 else model[1](x[:, :5])).sum().backward()
                model[0].weight.grad = model[1].weight.grad = None
        assert hooks_of(model) == [1, 0]  # it has to be told of again: nobody can tell that it was not taken
    assert running.ledger.recording.notes == ()


def by_announcement(running: Running, loss: Tensor, then: Callable[[], None]) -> None:
    with running.recorder.phase("backward"):
        loss.backward()
        then()


def test_gradients_that_are_dropped_before_an_announced_phase_ends_are_labelled():
    model, x = two_layers(), torch.randn(4, 6)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                by_announcement(running, model(x).sum(), model.zero_grad)
    assert most_gradients(running.ledger) == [(FIRST + SECOND) * FLOAT32] * 2


def test_a_gradient_in_another_place_than_it_was_told_of_has_not_stayed():
    lives, parameter = GradientLives(), nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    lives.told(parameter, parameter.grad)
    parameter.grad = torch.ones(3)  # as a sharded model does, which reduces it into another tensor
    lives.pass_ended([parameter])
    lives.step_ended()
    assert not lives.lasts(parameter)


def test_sparse_gradients_are_always_told_of():
    model = nn.Embedding(10, 4, sparse=True)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                model(torch.tensor([1, 2])).sum().backward()
        assert hooks_of(model) == [1]


def test_nothing_is_known_of_another_parameter_at_the_same_place_in_memory():
    lives, parameter = GradientLives(), nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    lives.told(parameter, parameter.grad)
    lives.pass_ended([parameter])
    lives.step_ended()
    assert lives.lasts(parameter)
    (key,) = lives._lasting
    del parameter
    newer = nn.Parameter(torch.zeros(3))
    lives._lasting[id(newer)] = lives._lasting.pop(key)
    assert not lives.lasts(newer)
