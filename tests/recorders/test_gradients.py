"""Gradients that outlast their backward pass are labelled at its end; those that somebody takes are told of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helpers import FLOAT32, Running, assert_agrees, most_gradients, recording_of
from vramscope.recorders.gradients import GradientLives, GradientWatch
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
    assert running.recording is not None
    assert running.recording.notes == ()  # all that there is could be looked at


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


def test_what_had_stayed_and_is_taken_is_told_of_from_then_on():
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


def test_what_an_earlier_pass_of_the_step_took_does_not_count_as_staying():
    model, x = two_layers(), torch.randn(4, 6)
    with watching(model) as running:
        with running.recorder.step(0):
            taker = model[0].weight.register_post_accumulate_grad_hook(take)
            model(x).sum().backward()
            taker.remove()
            model(x).sum().backward()
        assert hooks_of(model) == [1, 0]


def test_a_layer_that_a_step_leaves_out_is_told_of_until_it_has_lasted_again():
    model, x = two_layers(), torch.randn(4, 6)
    told = []
    with watching(model) as running:
        for index in range(4):
            with running.recorder.step(index):
                told.append(hooks_of(model))
                (model[1](x[:, :5]) if index == 1 else model(x)).sum().backward()
                model[0].weight.grad = model[1].weight.grad = None
    assert told == [[1, 1], [0, 0], [1, 0], [0, 0]]


def test_what_no_pass_reaches_is_neither_told_of_nor_missed():
    model, x = two_layers(), torch.randn(4, 6)
    model[0].weight.requires_grad_(False)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                model(x).sum().backward()
                model.zero_grad()
    assert most_gradients(running.ledger) == [SECOND * FLOAT32] * 2


def test_an_object_that_raises_when_it_is_looked_at_is_told_of():
    def broken() -> Iterator[tuple[str, Tensor]]:
        raise ValueError("no")
        yield "weight", torch.ones(2)

    errors: list[Exception] = []
    GradientWatch(GradientLives(), lambda _: None, errors.append).pass_ended(broken())
    assert [str(error) for error in errors] == ["no"]


def test_after_its_end_no_parameter_is_watched_any_more():
    watch, model = GradientWatch(GradientLives(), lambda _: None, lambda _: None), two_layers()
    watch.watch("0.weight", model[0].weight)
    assert hooks_of(model) == [1, 0]
    watch.remove()
    watch.watch("1.weight", model[1].weight)
    assert hooks_of(model) == [0, 0]


def test_a_pass_that_accumulates_nothing_changes_nothing():
    model, x = two_layers(), torch.randn(4, 6)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                torch.autograd.grad(model(x).sum(), [model[1].weight])
                model(x).sum().backward()
                told = hooks_of(model)
                model[0].weight.grad = model[1].weight.grad = None
    assert told == [0, 0]


def test_a_pass_inside_another_one_does_not_end_it():
    model, x = two_layers(), torch.randn(4, 6, requires_grad=True)

    def take_the_other(parameter: Tensor) -> None:
        model[1].weight.grad = None

    with watching(model) as running:
        model[0].weight.register_post_accumulate_grad_hook(take_the_other)
        with running.recorder.step(0):
            # the second layer's gradient comes in a pass of its own, before the outer one reaches the first layer
            model[0](checkpoint(model[1], model[0](x), use_reentrant=True)[:, :5].repeat(1, 2)[:, :6]).sum().backward()
        assert hooks_of(model)[1] == 1


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


def named(parameter: nn.Parameter) -> list[tuple[str, Tensor]]:
    return [("it", parameter)]


def test_a_gradient_in_another_place_than_it_was_told_of_has_not_stayed():
    lives, parameter = GradientLives(), nn.Parameter(torch.zeros(3))
    first = parameter.grad = torch.ones(3)
    lives.told(parameter, first)
    parameter.grad = torch.ones(3)  # as a sharded model does, which reduces it into another tensor
    lives.pass_ended(named(parameter))
    lives.step_ended()
    assert not lives.lasts(id(parameter))
    assert first is not parameter.grad  # the first is still there


def test_a_gradient_whose_memory_may_be_another_ones_by_now_has_not_stayed():
    lives, parameter = GradientLives(), nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    lives.told(parameter, parameter.grad)
    parameter.grad = None  # the next one may lie where this one lay
    parameter.grad = torch.ones(3)
    lives.pass_ended(named(parameter))
    lives.step_ended()
    assert not lives.lasts(id(parameter))


def test_a_step_that_ends_while_a_pass_goes_on_knows_nothing_of_what_that_pass_has_told():
    lives, parameter = GradientLives(), nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    for _ in range(2):
        lives.told(parameter, parameter.grad)
        lives.pass_ended(named(parameter))
    lives.told(parameter, parameter.grad)
    lives.step_ended()
    lives.pass_ended([])
    lives.step_ended()
    assert not lives.lasts(id(parameter))


def test_sparse_gradients_are_always_told_of():
    model = nn.Embedding(10, 4, sparse=True)
    with watching(model) as running:
        for index in range(2):
            with running.recorder.step(index):
                model(torch.tensor([1, 2])).sum().backward()
        assert hooks_of(model) == [1]
