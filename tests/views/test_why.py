"""The sentence that answers why."""

import re

from hypothesis import given
from hypothesis import strategies as st

from vramscope.ledger.summary import Activations
from vramscope.views.text import Scale
from vramscope.views.why import explain

from .pages import comparison, composition, summary

MIB = 1024**2
SIZES = st.lists(st.integers(0, 10**10), min_size=11, max_size=11)


def test_the_sentence() -> None:
    # as the design's example: 100 MiB in inference; gradients 100, state 200, activations 10 to 320: 720 MiB, 7.2x
    inference = summary(composition(parameters=90 * MIB, activations=10 * MIB))
    training = summary(
        composition(parameters=90 * MIB, activations=320 * MIB, gradients=100 * MIB, optimizer_state=210 * MIB)
    )
    assert explain(comparison(inference, training), Scale(2)) == (
        "Training needs 7.2x the memory of inference (720.0 MiB against 100.0 MiB): "
        "+310.0 MiB activations, +210.0 MiB AdamW state and +100.0 MiB gradients."
    )


def test_activations_that_wait_for_backward_are_called_so() -> None:
    kept = Activations(300 * MIB, 300 * MIB, 0, 0, 0, 0, 0)
    training = summary(composition(activations=300 * MIB), activations=kept, phase="backward")
    reason = explain(comparison(summary(composition(activations=MIB)), training), Scale(2))
    assert reason is not None
    assert reason.endswith(": +299.0 MiB activations kept for backward.")


def test_what_is_less_is_told_too() -> None:
    training = summary(composition(gradients=100 * MIB))
    reason = explain(comparison(summary(composition(workspace=10 * MIB)), training), Scale(2))
    assert reason is not None
    assert reason.endswith("+100.0 MiB gradients and -10.0 MiB workspace.")


def test_negligible_differences_are_left_out() -> None:
    inference = summary(composition(parameters=MIB))
    training = summary(composition(parameters=MIB, gradients=MIB, workspace=4))
    reason = explain(comparison(inference, training), Scale(1))
    assert reason is not None
    assert reason.endswith(": +1,024.0 KiB gradients.")


def test_without_a_difference_there_is_no_list() -> None:
    same = summary(composition(parameters=MIB))
    assert explain(comparison(same, same), Scale(1)) == (
        "Training needs 1.0x the memory of inference (1,024.0 KiB against 1,024.0 KiB)."
    )


def test_one_pass_needs_no_reason() -> None:
    assert explain(comparison(None, summary(composition(parameters=MIB))), Scale(2)) is None
    assert explain(comparison(summary(composition()), summary(composition(gradients=1))), Scale(2)) is None


@given(SIZES, SIZES)
def test_the_terms_add_up_to_the_difference(inference: list[int], training: list[int]) -> None:
    names = list(composition())
    small, large = (dict(zip(names, sizes, strict=True)) for sizes in (inference, training))
    reason = explain(comparison(summary(small), summary(large)), Scale(0))
    if reason is None:
        assert sum(inference) == 0
        return
    _, _, terms = reason.partition("): ")
    told = sum(int(term.replace(",", "")) for term in re.findall(r"([+-][\d,]+) B", terms))
    largest = max(abs(after - before) for before, after in zip(inference, training, strict=True))
    assert abs(told - (sum(training) - sum(inference))) < max(0.005 * largest, 1)
