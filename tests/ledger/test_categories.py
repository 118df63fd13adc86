"""Which category a block gets, by evidence alone; each recording is written by hand."""

import pytest

from helpers import MarkKind, Script
from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import ScopeKind


def categories(script: Script) -> dict[int, Category]:
    """The category of every block by address; no address is used twice."""
    ledger = script.ledger()
    return {int(a): CATEGORIES[c] for a, c in zip(ledger.blocks.address, ledger.category, strict=True)}


def category_of(script: Script, address: int = 0x10) -> Category:
    return categories(script)[address]


def recomputed(ledger: Ledger) -> dict[int, bool]:
    return {int(a): bool(r) for a, r in zip(ledger.blocks.address, ledger.recomputed, strict=True)}


# -- no evidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["build", "forward", "backward", "optimizer"])
def test_a_phase_alone_is_no_evidence(phase):
    script = Script()
    with script.phase(phase):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


@pytest.mark.parametrize("phase", ["build", "backward", "optimizer"])
def test_an_operator_outside_a_forward_pass_is_no_evidence(phase):
    script = Script()
    with script.phase(phase), script.operator("aten::randn"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


def test_what_is_made_outside_every_phase_is_unattributed():
    script = Script()
    with script.step(0), script.operator("aten::randn"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


def test_a_seed_nobody_marked_is_unattributed():
    script = Script()
    script.seed(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


def test_a_user_scope_is_no_evidence():
    script = Script()
    with script.phase("forward"), script.scope(ScopeKind.USER, "my region"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


# -- activations ------------------------------------------------------------------------------------------------------


def test_a_forward_operators_output_is_an_activation():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.ACTIVATIONS


def test_a_modules_allocation_before_any_operator_is_an_activation():
    script = Script()
    with script.phase("forward"), script.module("a"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.ACTIVATIONS


def test_an_operator_whose_node_ran_was_part_of_a_forward_pass_whatever_was_announced():
    script = Script()
    with script.operator("aten::mul", sequence=3):
        script.alloc(0x10, 1)
    with script.operator("aten::exp", sequence=4):
        script.alloc(0x20, 1)
    with script.phase("backward"), script.node("MulBackward0", sequence=3):
        pass
    assert categories(script) == {0x10: Category.ACTIVATIONS, 0x20: Category.UNATTRIBUTED}


def test_a_forward_inside_the_optimizers_step_is_an_activation():
    script = Script()  # LBFGS calls back for the loss
    with script.phase("optimizer"), script.scope(ScopeKind.USER, "Optimizer.step#LBFGS.step"):
        with script.phase("forward"), script.module("a"), script.operator("aten::mul", sequence=0):
            script.alloc(0x10, 1)
        with script.operator("aten::cat"):
            script.alloc(0x20, 1)
    assert categories(script) == {0x10: Category.ACTIVATIONS, 0x20: Category.OPTIMIZER_TEMPORARIES}


def test_a_kv_cache_is_an_activation():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.KV_CACHE, "layer0.key", 0x10)
    assert category_of(script) == Category.ACTIVATIONS


# -- workspace --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["build", "forward", "backward", "optimizer"])
def test_scratch_of_one_operator_is_workspace_in_any_phase(phase):
    script = Script()
    with script.phase(phase), script.operator("aten::conv2d"):
        script.alloc(0x10, 1)
        script.free(0x10, 1)
    assert category_of(script) == Category.WORKSPACE


def test_what_inner_operators_hand_to_each_other_is_workspace_of_the_outer_one():
    script = Script()
    with script.phase("forward"), script.operator("aten::outer"):
        with script.operator("aten::first"):
            script.alloc(0x10, 1)
        with script.operator("aten::second"):
            script.free(0x10, 1)
    assert category_of(script) == Category.WORKSPACE


def test_the_next_call_of_the_same_operator_is_another_operator():
    script = Script()
    with script.phase("forward"):
        with script.operator("aten::mul"):
            script.alloc(0x10, 1)
        with script.operator("aten::mul"):
            script.free(0x10, 1)
    assert category_of(script) == Category.ACTIVATIONS


def test_scratch_of_a_backward_formula_is_workspace():
    script = Script()
    with script.phase("backward"), script.node("ConvolutionBackward0"), script.operator("aten::convolution_backward"):
        script.alloc(0x10, 1)
        script.free(0x10, 1)
    assert category_of(script) == Category.WORKSPACE


def test_two_operators_of_one_node_share_an_activation_gradient():
    script = Script()
    with script.phase("backward"), script.node("AddmmBackward0"):
        with script.operator("aten::t"):
            script.alloc(0x10, 1)
        with script.operator("aten::mm"):
            script.free(0x10, 1)
    assert category_of(script) == Category.ACTIVATION_GRADIENTS


def test_a_mark_is_stronger_than_a_short_life():
    script = Script()
    with script.phase("backward"), script.node("AccumulateGrad"), script.operator("aten::clone"):
        script.alloc(0x10, 1)
        script.mark(MarkKind.GRADIENT, "w", 0x10)
        script.free(0x10, 1)
    assert category_of(script) == Category.GRADIENTS


# -- the backward pass ------------------------------------------------------------------------------------------------


def test_a_backward_formulas_output_is_an_activation_gradient():
    script = Script()
    with script.phase("backward"), script.node("MulBackward0", sequence=0), script.operator("aten::mul"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.ACTIVATION_GRADIENTS


def test_a_node_outside_a_backward_phase_is_evidence_enough():
    script = Script()
    with script.node("MulBackward0"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.ACTIVATION_GRADIENTS


def test_a_block_that_becomes_a_gradient_is_one_from_birth():
    script = Script()
    with script.phase("backward"):
        with script.node("AddmmBackward0", sequence=0), script.operator("aten::mm"):
            birth = script.alloc(0x10, 24)
        with script.node("AccumulateGrad"):
            script.mark(MarkKind.GRADIENT, "w", 0x10)
    assert script.ledger().composition(birth)[Category.GRADIENTS] == 24


def test_what_is_added_in_place_into_a_gradient_is_a_gradient():
    script = Script()
    script.seed(0x10, 24)
    script.mark(MarkKind.GRADIENT, "w", 0x10)
    with script.phase("backward"):
        with script.node("AddmmBackward0", sequence=0), script.operator("aten::mm"):
            script.alloc(0x20, 24)
        with script.node("AccumulateGrad"):
            with script.operator("aten::add_"):
                pass
            script.free(0x20, 24)
    assert categories(script) == {0x10: Category.GRADIENTS, 0x20: Category.GRADIENTS}


def test_what_is_copied_into_a_gradient_is_an_activation_gradient():
    script = Script()
    with script.phase("backward"):
        with script.node("TBackward0", sequence=0), script.operator("aten::t"):
            script.alloc(0x20, 24)
        with script.node("AccumulateGrad"):
            with script.operator("aten::clone"):
                script.alloc(0x10, 24)
            script.mark(MarkKind.GRADIENT, "w", 0x10)
            script.free(0x20, 24)
    assert categories(script) == {0x10: Category.GRADIENTS, 0x20: Category.ACTIVATION_GRADIENTS}


def test_an_activation_that_dies_in_an_accumulation_stays_one():
    script = Script()
    with script.phase("forward"), script.operator("aten::mul", sequence=0):
        script.alloc(0x20, 24)
    with script.phase("backward"), script.node("AccumulateGrad"):
        script.free(0x20, 24)
    assert category_of(script, 0x20) == Category.ACTIVATIONS


def test_the_first_gradient_of_a_backward_pass():
    script = Script()
    with script.phase("backward"):
        with script.operator("aten::ones_like"):
            script.alloc(0x10, 4)
        script.mark(MarkKind.ROOT_GRADIENT, "", 0x10)
    assert category_of(script) == Category.ACTIVATION_GRADIENTS


def test_a_first_gradient_that_the_program_passes_in_keeps_its_own_category():
    script = Script()
    with script.phase("forward"), script.module("a"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 4)
    with script.operator("aten::randn"):
        script.alloc(0x20, 4)
    with script.phase("backward"):
        script.mark(MarkKind.ROOT_GRADIENT, "", 0x10)
        script.mark(MarkKind.ROOT_GRADIENT, "", 0x20)
    assert categories(script) == {0x10: Category.ACTIVATIONS, 0x20: Category.UNATTRIBUTED}


# -- recomputation ----------------------------------------------------------------------------------------------------


def test_a_forward_operator_inside_a_node_is_a_recomputed_activation():
    script = Script()
    with script.phase("backward"), script.node("MulBackward0", sequence=0):
        with script.operator("aten::tanh", sequence=4):
            script.alloc(0x10, 1)
        with script.operator("aten::mul"):
            script.alloc(0x20, 1)
    assert categories(script) == {0x10: Category.ACTIVATIONS, 0x20: Category.ACTIVATION_GRADIENTS}
    assert recomputed(script.ledger()) == {0x10: True, 0x20: False}


def test_a_module_inside_a_node_makes_recomputed_activations_also_without_gradients():
    script = Script()
    with script.phase("backward"), script.node("CheckpointFunctionBackward", sequence=0), script.module("a"):
        with script.operator("aten::tanh"):
            script.alloc(0x10, 1)
        script.alloc(0x20, 1)
    assert categories(script) == {0x10: Category.ACTIVATIONS, 0x20: Category.ACTIVATIONS}
    assert recomputed(script.ledger()) == {0x10: True, 0x20: True}


def test_a_backward_pass_that_builds_a_graph_runs_its_formulas_with_gradients_on():
    script = Script()
    with script.phase("backward", value=1), script.node("MulBackward0", sequence=0):
        with script.operator("aten::mul", sequence=4):
            script.alloc(0x10, 1)
        with script.module("a"), script.operator("aten::tanh", sequence=5):
            script.alloc(0x20, 1)
    assert categories(script) == {0x10: Category.ACTIVATION_GRADIENTS, 0x20: Category.ACTIVATIONS}
    assert recomputed(script.ledger()) == {0x10: False, 0x20: True}


def test_an_ordinary_forward_is_not_recomputed():
    script = Script()
    with script.phase("forward"), script.module("a"), script.operator("aten::mul", sequence=0):
        script.alloc(0x10, 1)
    assert recomputed(script.ledger()) == {0x10: False}


def test_recomputed_scratch_is_workspace_and_not_flagged():
    script = Script()
    with (
        script.phase("backward"),
        script.node("CheckpointFunctionBackward"),
        script.module("a"),
        script.operator("aten::conv2d", sequence=3),
    ):
        script.alloc(0x10, 1)
        script.free(0x10, 1)
    assert category_of(script) == Category.WORKSPACE
    assert recomputed(script.ledger()) == {0x10: False}


def test_an_accumulation_inside_a_recomputation_is_still_found():
    script = Script()  # the reentrant checkpoint runs a backward pass of its own inside its node
    script.seed(0x30, 24)
    script.mark(MarkKind.GRADIENT, "w", 0x30)
    with script.phase("backward"), script.node("CheckpointFunctionBackward"):
        with script.node("MulBackward0", sequence=1), script.operator("aten::mul"):
            script.alloc(0x10, 24)
        with script.node("AccumulateGrad"):
            script.free(0x10, 24)
    assert category_of(script) == Category.GRADIENTS


# -- the optimizer ----------------------------------------------------------------------------------------------------


def test_what_the_optimizers_step_makes_is_temporary_unless_its_state_holds_it():
    script = Script()
    with script.phase("optimizer"):
        with script.scope(ScopeKind.USER, "Optimizer.step#AdamW.step"), script.operator("aten::zeros_like"):
            script.alloc(0x10, 1)
            script.alloc(0x20, 1)
        script.mark(MarkKind.OPTIMIZER_STATE, "exp_avg", 0x10, owner="w")
    assert categories(script) == {0x10: Category.OPTIMIZER_STATE, 0x20: Category.OPTIMIZER_TEMPORARIES}


def test_an_optimizers_temporary_needs_no_operator():
    script = Script()
    with script.phase("optimizer"), script.scope(ScopeKind.USER, "Optimizer.step#AdamW.step"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.OPTIMIZER_TEMPORARIES


def test_what_the_program_does_beside_the_optimizers_step_is_not_the_optimizers():
    script = Script()
    with script.phase("optimizer"), script.operator("aten::clone"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.UNATTRIBUTED


# -- collectives and marks --------------------------------------------------------------------------------------------


def test_a_collectives_buffer_is_communication():
    script = Script()
    with script.phase("backward"), script.node("AccumulateGrad"), script.operator("c10d::allreduce_"):
        script.alloc(0x10, 1)
    assert category_of(script) == Category.COMMUNICATION


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        (MarkKind.PARAMETER, Category.PARAMETERS),
        (MarkKind.BUFFER, Category.BUFFERS),
        (MarkKind.INPUT, Category.INPUTS),
        (MarkKind.GRADIENT, Category.GRADIENTS),
        (MarkKind.OPTIMIZER_STATE, Category.OPTIMIZER_STATE),
    ],
)
def test_a_mark_is_stronger_than_where_a_block_was_born(kind, category):
    script = Script()
    with (
        script.phase("backward"),
        script.node("CheckpointFunctionBackward"),
        script.module("a"),
        script.operator("aten::mul", sequence=1),
    ):
        script.alloc(0x10, 1)
    script.mark(kind, "x", 0x10)
    assert category_of(script) == category
    assert recomputed(script.ledger()) == {0x10: False}


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        (MarkKind.LIBRARY_WORKSPACE, Category.WORKSPACE),
        (MarkKind.COMMUNICATION, Category.COMMUNICATION),
        (MarkKind.TARGET, Category.INPUTS),
    ],
)
def test_a_mark_suffices_where_nothing_else_tells(kind, category):
    script = Script()
    script.alloc(0x10, 1)
    script.mark(kind, "", 0x10)
    assert category_of(script) == category


def test_what_a_model_made_stays_an_activation_though_a_loss_takes_it_for_its_target():
    script = Script()
    with script.phase("forward"), script.module("codebook"), script.operator("aten::embedding"):
        script.alloc(0x10, 1)
    script.mark(MarkKind.TARGET, "", 0x10)
    assert category_of(script) == Category.ACTIVATIONS


# From strongest to weakest: what a block is does not depend on who else refers to it.
PRECEDENCE = (
    (MarkKind.PARAMETER, Category.PARAMETERS),
    (MarkKind.BUFFER, Category.BUFFERS),
    (MarkKind.INPUT, Category.INPUTS),
    (MarkKind.OPTIMIZER_STATE, Category.OPTIMIZER_STATE),
    (MarkKind.GRADIENT, Category.GRADIENTS),
    (MarkKind.COMMUNICATION, Category.COMMUNICATION),
    (MarkKind.LIBRARY_WORKSPACE, Category.WORKSPACE),
    (MarkKind.KV_CACHE, Category.ACTIVATIONS),
    (MarkKind.TARGET, Category.INPUTS),
)


@pytest.mark.parametrize("stronger", range(len(PRECEDENCE) - 1))
def test_each_mark_outranks_the_next(stronger):
    (first, category), (second, _) = PRECEDENCE[stronger], PRECEDENCE[stronger + 1]
    script = Script()
    script.alloc(0x10, 1)
    script.mark(second, "weaker", 0x10)
    script.mark(first, "stronger", 0x10)
    assert category_of(script) == category


def test_every_kind_of_mark_has_its_place():
    script = Script()
    for number, kind in enumerate(MarkKind):
        script.alloc(number * 16 + 16, 1)
        script.mark(kind, kind.name, number * 16 + 16)
    found = categories(script)
    assert {kind: found[kind * 16 + 16] for kind, _ in PRECEDENCE} == dict(PRECEDENCE)
