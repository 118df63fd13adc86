"""Targets of losses, told by the graph that the losses leave behind."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.recorders.saved_targets import saved_targets

LOGITS = torch.randn(4, 5)
LABELS = torch.arange(4)
SOFT = torch.rand(4, 5)


def outputs() -> Tensor:
    return LOGITS.clone().requires_grad_()


def addresses(*losses: Tensor) -> list[int]:
    return [target.data_ptr() for target in saved_targets(loss.grad_fn for loss in losses)]


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (functional.cross_entropy, LABELS),
        (functional.nll_loss, LABELS),
        (functional.multi_margin_loss, LABELS),
        (functional.mse_loss, SOFT),
        (functional.smooth_l1_loss, SOFT),
        (functional.huber_loss, SOFT),
        (functional.soft_margin_loss, SOFT),
        (functional.binary_cross_entropy_with_logits, SOFT),
    ],
)
def test_what_a_loss_function_saves_as_its_target_is_found(loss, target):
    assert addresses(loss(outputs(), target)) == [target.data_ptr()]


def test_losses_that_are_scaled_and_added_are_each_found():
    given = outputs()
    first = functional.cross_entropy(given, LABELS)
    total = (first / 2 + functional.mse_loss(given.sigmoid(), SOFT) * 0.1 + first).mean()
    assert sorted(addresses(total)) == sorted([LABELS.data_ptr(), SOFT.data_ptr()])
    assert addresses(functional.mse_loss(given, SOFT), first) == [SOFT.data_ptr(), LABELS.data_ptr()]


def test_a_loss_deep_inside_the_model_is_left_alone():
    given = functional.mse_loss(outputs(), SOFT)
    for _ in range(32):
        given = given * 2
    assert addresses(given) == []


def test_nothing_is_found_without_a_loss_or_a_graph():
    assert addresses(outputs().square().mean()) == []
    assert list(saved_targets([])) == []


def test_a_target_that_is_learned_is_no_target():
    assert addresses(functional.mse_loss(outputs(), SOFT.clone().requires_grad_())) == []


def test_hooks_of_the_program_on_what_is_saved_are_not_called():
    called = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, called.append):
        loss = functional.cross_entropy(outputs(), LABELS)
    assert addresses(loss) == []
    assert called == []


def test_a_graph_that_is_freed_and_a_target_that_has_changed_raise_nothing():
    used = functional.cross_entropy(outputs(), LABELS)
    used.backward()
    assert addresses(used) == []
    target = SOFT.clone()
    stale = functional.mse_loss(outputs(), target)
    target.add_(1)
    assert addresses(stale) == []


class Opaque(torch.autograd.Function):
    """A loss of the program's own, on top of torch's."""

    @staticmethod
    def forward(ctx, given):
        return given.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_function_of_the_programs_own_is_looked_through():
    assert addresses(Opaque.apply(functional.cross_entropy(outputs(), LABELS))) == [LABELS.data_ptr()]


def test_looking_leaves_the_pass_as_it_is():
    layer = nn.Linear(5, 5)
    loss = functional.cross_entropy(layer(LOGITS), LABELS)
    assert addresses(loss) == [LABELS.data_ptr()]
    loss.backward()
    assert layer.weight.grad is not None
