"""What losses take on CUDA, by requested bytes on fake tensors, and that some results keep more than they show."""

import pytest
import torch
from tests.predict.running import ROWS, born, events, matrix, most
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

REDUCED = ["mean", "sum"]


def of_two(rows: int):
    return lambda: (torch.empty(rows, 10, requires_grad=True), torch.empty(rows, 10))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("reduction", REDUCED)
@pytest.mark.parametrize("loss", [functional.mse_loss, functional.smooth_l1_loss])
def test_a_loss_keeps_as_much_as_every_element_takes(loss, reduction, rows):
    kept = []

    def run(made):
        kept.append(loss(*made, reduction=reduction))

    # 4 bytes for each of 10 numbers a row: the result, and the elements beside it while they are summed
    assert events(of_two(rows), run) == [40 * rows, 40 * rows, -40 * rows]
    assert kept[0].shape == ()
    assert kept[0].untyped_storage().nbytes() == 40 * rows


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("loss", [functional.mse_loss, functional.huber_loss, functional.binary_cross_entropy])
def test_a_loss_of_every_element_is_made_once(loss, rows):
    assert events(of_two(rows), lambda made: loss(*made, reduction="none"))[:1] == [40 * rows]
    assert born(of_two(rows), lambda made: loss(*made, reduction="none")) == [40 * rows]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("reduction", REDUCED)
def test_huber_loss_gives_its_elements_back(reduction, rows):
    kept = []
    found = events(of_two(rows), lambda made: kept.append(functional.huber_loss(*made, reduction=reduction)))
    assert found == [40 * rows, 4, -40 * rows]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("reduction", REDUCED)
@pytest.mark.parametrize("loss", [functional.binary_cross_entropy, functional.soft_margin_loss])
def test_a_loss_made_in_its_result_shrinks_and_keeps_it(loss, reduction, rows):
    kept = []
    found = events(of_two(rows), lambda made: kept.append(loss(*made, reduction=reduction)))
    assert found == [40 * rows, 4, -4]
    assert kept[0].untyped_storage().nbytes() == 40 * rows


@pytest.mark.parametrize("rows", ROWS)
def test_the_gradient_of_binary_cross_entropy_is_one_tensor(rows):
    def run(made):
        functional.binary_cross_entropy(*made).backward(torch.empty(()))

    assert born(of_two(rows), run) == [40 * rows, 4, 4, 40 * rows]  # result, sum, what backward is given, gradient


@pytest.mark.parametrize("rows", ROWS)
def test_soft_margins_gradient_has_three_tensors_on_the_way(rows):
    def run(made):
        functional.soft_margin_loss(*made, reduction="none").backward(torch.empty(rows, 10))

    # the result, its gradient; -target, its product with the input, the exponential; the gradient
    assert born(of_two(rows), run) == [40 * rows] * 6
    assert most(of_two(rows), run) == 5 * 40 * rows


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("options", "forward", "backward"),
    [
        # logarithms of the sigmoid and the elements; then the sigmoid, in which all else is computed
        ({}, 2, 1),
        ({"weight": True}, 2, 1),
        # one for each column and their product with the targets besides; then that product, one more than it, sigmoid
        ({"pos_weight": True}, 3, 3),
    ],
)
def test_binary_cross_entropy_with_logits_works_in_place(options, forward, backward, rows):
    def make():
        return of_two(rows)(), {name: torch.empty(10) for name in options}

    def run(made):
        tensors, given = made
        functional.binary_cross_entropy_with_logits(*tensors, **given).backward(torch.empty(()))

    found = born(make, run)
    assert found.count(40 * rows) == forward + backward
    assert [size for size in found if size != 40 * rows] == [*([40] if "pos_weight" in options else []), 4, 4]


def run_on_fakes(run):
    """What ``run`` gives by the rules of a GPU."""
    kept = []
    events(lambda: None, lambda _: kept.append(run()))
    return kept[0]


def test_a_gradient_of_the_gradient_of_logits_can_be_had():
    def run():
        x = torch.empty(4, 5, requires_grad=True)
        loss = functional.binary_cross_entropy_with_logits(x, torch.ones(4, 5))
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        gradient.pow(2).sum().backward()
        return x.grad.shape

    assert run_on_fakes(run) == (4, 5)


def test_logits_may_be_checkpointed_with_weights():
    def run():
        x = torch.empty(4, 5, requires_grad=True)
        given = x, torch.ones(4, 5), torch.ones(4, 5)
        loss = checkpoint(
            lambda a, b, c: functional.binary_cross_entropy_with_logits(a, b, pos_weight=c), *given, use_reentrant=False
        )
        loss.backward()
        return x.grad.shape

    assert run_on_fakes(run) == (4, 5)


def test_a_hook_on_logits_computes_what_it_says():
    seen = []

    def run():
        x = torch.empty(4, 5, requires_grad=True)
        loss = functional.binary_cross_entropy_with_logits(x, torch.ones(4, 5), reduction="none")
        loss.register_hook(lambda gradient: seen.append((gradient * torch.ones(2, 1, 1)).shape))
        loss.backward(torch.ones(4, 5))

    run_on_fakes(run)
    assert seen == [(2, 4, 5)]


@pytest.mark.parametrize("rows", ROWS)
def test_log_sigmoid_keeps_no_buffer(rows):
    assert born(matrix(rows), functional.logsigmoid) == [40 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_margins_of_classes_are_summed_by_sample(rows):
    def make():
        return torch.empty(rows, 10, requires_grad=True), torch.zeros(rows, dtype=torch.long)

    assert born(make, lambda made: functional.multi_margin_loss(*made)) == [4, 4 * rows]
    assert born(make, lambda made: functional.multi_margin_loss(*made, reduction="none")) == [4 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_margins_of_labels_note_first_which_are_targets(rows):
    def make():
        return torch.empty(rows, 10, requires_grad=True), torch.zeros(rows, 10, dtype=torch.long)

    assert born(make, lambda made: functional.multilabel_margin_loss(*made)) == [40 * rows, 4 * rows, 4]


@pytest.mark.parametrize("rows", ROWS)
def test_losses_of_places_have_the_sum_of_weights_first(rows):
    def make():
        return torch.empty(1, 10, rows, 3, requires_grad=True), torch.zeros(1, rows, 3, dtype=torch.long)

    assert born(make, lambda made: functional.nll_loss(*made, reduction="none")) == [4, 12 * rows]


# -- connectionist temporal classification -----------------------------------------------------------------------------


def alignments(length: int, target: int) -> int:
    """Bytes for 2 sequences: one number for every time and for every label and the blanks around it."""
    return 2 * length * (2 * target + 1) * 4


@pytest.mark.parametrize("length", [7, 20])
@pytest.mark.parametrize("target", [2, 5])
def test_ctc_loss_of_lengths_that_are_known(length, target):
    def make():
        return torch.empty(length, 2, 6, requires_grad=True), torch.zeros(2, 9, dtype=torch.long)

    def run(made):
        functional.ctc_loss(*made, [length, length - 1], [target, 1]).backward(torch.empty(()))

    lengths = [16] * 3  # of inputs and targets, and where each target begins: 2 int64 each
    forward = [
        *lengths,
        alignments(length, target),
        8,
        8,
        8,
        8,
        4,
    ]  # the losses, lengths and at least 1, quotient, mean
    backward = [*lengths, alignments(length, target), length * 2 * 6 * 4]
    found = born(make, run)
    assert found[: len(forward)] == forward
    assert found[-5:] == backward


@pytest.mark.parametrize("length", [7, 20])
@pytest.mark.parametrize(
    "targets",
    [(2, 9), (18,)],  # side by side, or end to end: then they are taken to be equally long
)
def test_ctc_loss_of_lengths_that_are_data(length, targets):
    def make():
        lengths = torch.empty(2, dtype=torch.long)
        return torch.empty(length, 2, 6, requires_grad=True), torch.zeros(targets, dtype=torch.long), lengths

    found = born(make, lambda made: functional.ctc_loss(*made, made[2], reduction="sum"))
    assert found == [16, 16, 16, alignments(length, 9), 8, 4]


@pytest.mark.parametrize(("reduction", "shape"), [("none", ()), ("sum", ()), ("mean", ())])
def test_ctc_loss_of_a_sequence_alone(reduction, shape):
    def run():
        x = torch.empty(50, 6, requires_grad=True)
        loss = functional.ctc_loss(x, torch.zeros(10, dtype=torch.long), (50,), (10,), reduction=reduction)
        loss.backward(torch.ones(()))
        return loss.shape, x.grad.shape

    assert run_on_fakes(run) == (shape, (50, 6))


def test_ctc_loss_of_much_sums_its_blanks_by_operators():
    def make():
        return torch.empty(230, 2, 6, requires_grad=True), torch.zeros(2, 5, dtype=torch.long)

    def run(made):
        functional.ctc_loss(*made, [230] * 2, [5] * 2, reduction="sum").backward(torch.empty(()))

    blanks = 2 * 230 * 6 * 4  # 6 of the 11 places
    of_time = 2 * 230 * 4
    # both ways added, their largest number, its size and whether that is infinite, differences, and the sum
    assert born(make, run)[-6:] == [blanks, of_time, of_time, of_time // 4, blanks, of_time]
