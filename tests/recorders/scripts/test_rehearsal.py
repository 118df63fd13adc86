"""The step before a window: what it learns of gradients, and that nothing of it stays."""

import threading

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vramscope.recorders.scripts.rehearsal import Rehearsal


def model_and_input() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6)), torch.randn(4, 6)


def test_gradients_that_stayed_are_known_and_the_hooks_are_gone():
    model, x = model_and_input()
    engine = torch.autograd._engine_run_backward
    rehearsal = Rehearsal([model], lambda: None)
    model(x).sum().backward()
    lives = rehearsal.step_ended()
    assert all(lives.lasts(id(parameter)) for parameter in model.parameters())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())
    assert torch.autograd._engine_run_backward is engine


def test_a_model_that_comes_later_is_looked_at_too():
    model, x = model_and_input()
    rehearsal = Rehearsal([], lambda: None)
    rehearsal.watch(model)
    model(x).sum().backward()
    assert rehearsal.step_ended().lasts(id(model[0].weight))


def test_what_is_taken_while_the_pass_runs_is_not_known_as_lasting():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)

    def take(parameter: Tensor) -> None:
        model[1].weight.grad = None

    model[0].weight.register_post_accumulate_grad_hook(take)  # the first layer's gradients come last
    model(x).sum().backward()
    lives = rehearsal.step_ended()
    assert [lives.lasts(id(parameter)) for parameter in model.parameters()] == [True, True, False, True]


def test_a_pass_inside_another_one_ends_nothing():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)

    def take(parameter: Tensor) -> None:
        model[1].weight.grad = None

    model[0].weight.register_post_accumulate_grad_hook(take)
    # the inner layers' gradients come in a backward pass of their own, inside the outer one, and before it ends
    x.requires_grad_()
    model[0](checkpoint(model[1], model[0](x), use_reentrant=True)).sum().backward()
    assert not rehearsal.step_ended().lasts(id(model[1].weight))


def test_a_pass_on_another_thread_is_left_to_be_told_of():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)
    thread = threading.Thread(target=lambda: model(x).sum().backward())
    thread.start()
    thread.join()
    assert not rehearsal.step_ended().lasts(id(model[0].weight))


def test_a_model_whose_parameters_are_not_built_yet_is_passed_over():
    model = nn.LazyLinear(5)
    rehearsal = Rehearsal([model], lambda: None)
    model(torch.randn(2, 3)).sum().backward()
    assert not rehearsal.step_ended().lasts(id(model.weight))


def test_a_model_that_is_gone_is_no_matter():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)
    other = nn.Linear(6, 5)
    rehearsal.watch(other)
    del model
    other(x).sum().backward()
    assert rehearsal.step_ended().lasts(id(other.weight))


def test_a_pass_that_goes_on_after_the_step_hooks_nothing():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)
    model(x).sum().backward()
    model.zero_grad()
    x.requires_grad_()
    x.register_hook(lambda gradient: rehearsal.step_ended() and None)  # as where an optimizer steps in a hook
    (x * 2).sum().backward()
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_a_wrapper_around_ours_that_stays_hooks_nothing(monkeypatch):
    model, x = model_and_input()
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", torch.autograd._engine_run_backward)  # restored last
    rehearsal = Rehearsal([model], lambda: None)
    ours = torch.autograd._engine_run_backward
    model(x).sum().backward()
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", lambda *args, **kwargs: ours(*args, **kwargs))
    rehearsal.step_ended()
    model.zero_grad()
    (x.requires_grad_() * 2).sum().backward()
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_what_is_watched_can_still_be_swapped():
    model, x = model_and_input()
    rehearsal = Rehearsal([model], lambda: None)
    model(x).sum().backward()
    model.zero_grad()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.to(torch.float64)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
        rehearsal.stop()
    assert model[0].weight.dtype == torch.float64
