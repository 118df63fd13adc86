"""What scopes inherit from their ancestors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Script
from vramscope.ledger.lineage import nearest, trace_lineage
from vramscope.recording.recording import ScopeKind


def parents(*rows: int) -> np.ndarray:
    """Parents with the last place standing for "no scope", as the lineage has them."""
    return np.array([*rows, -1], dtype=np.int64)


def flags(count: int, *wanted: int) -> np.ndarray:
    return np.isin(np.arange(count + 1), wanted)


def test_nearest_is_the_scope_itself_when_it_is_wanted():
    assert nearest(parents(-1, 0, 1), flags(3, 0, 2)).tolist() == [0, 0, 2, -1]


def test_nearest_is_none_without_a_wanted_ancestor():
    assert nearest(parents(-1, 0, -1, 2), flags(4, 1)).tolist() == [-1, 1, -1, -1, -1]


def test_nearest_finds_a_root_far_above():
    count = 1000  # more generations than one doubling, or ten, would reach by single jumps
    assert nearest(parents(*range(-1, count - 1)), flags(count, 0)).tolist() == [0] * count + [-1]


@given(st.data())
def test_nearest_agrees_with_walking_up(data):
    count = data.draw(st.integers(0, 40))
    parent = parents(*[data.draw(st.integers(-1, row - 1)) for row in range(count)])
    wanted = np.append(np.array([data.draw(st.booleans()) for _ in range(count)], dtype=np.bool_), False)
    expected = []
    for row in range(count):
        while row >= 0 and not wanted[row]:
            row = int(parent[row])
        expected.append(row)
    assert nearest(parent, wanted).tolist() == [*expected, -1]


def test_the_operator_is_the_outermost_one():
    script = Script()
    with script.module("a"), script.operator("aten::linear") as outer, script.operator("aten::addmm") as inner:
        pass
    lineage = trace_lineage(script.recording())
    assert lineage.operator[outer] == outer
    assert lineage.operator[inner] == outer


def test_a_module_inside_an_operator_begins_anew():
    script = Script()
    with script.operator("MyFunction") as outer, script.module("a") as module, script.operator("aten::mm") as inner:
        pass
    lineage = trace_lineage(script.recording())
    assert lineage.operator[outer] == outer
    assert lineage.operator[module] == -1
    assert lineage.operator[inner] == inner


def test_a_node_between_operators_begins_anew():
    script = Script()
    with script.operator("aten::outer"), script.node("AddBackward0") as node, script.operator("aten::sum") as inner:
        pass
    lineage = trace_lineage(script.recording())
    assert lineage.operator[node] == -1
    assert lineage.operator[inner] == inner


def test_a_user_scope_is_no_boundary():
    script = Script()
    with script.operator("aten::a") as outer, script.scope(ScopeKind.USER, "mine"), script.operator("aten::b") as inner:
        pass
    assert trace_lineage(script.recording()).operator[inner] == outer


def test_reentrant_checkpointing_is_no_operator():
    script = Script()
    with script.operator("CheckpointFunction") as checkpoint, script.operator("aten::mm") as inner:
        pass
    lineage = trace_lineage(script.recording())
    assert lineage.operator[checkpoint] == -1
    assert lineage.operator[inner] == inner


def test_a_scope_belongs_to_the_innermost_module():
    script = Script()
    with (
        script.module(""),
        script.operator("aten::add") as own,
        script.module("a.b"),
        script.operator("aten::mm") as deep,
    ):
        pass
    with script.operator("aten::mul") as outside:
        pass
    recording = script.recording()
    lineage = trace_lineage(recording)
    assert [recording.strings[lineage.module[row]] for row in (own, deep, outside)] == ["", "a.b", ""]
    assert lineage.has_module[[own, deep, outside]].tolist() == [True, True, False]


def test_a_backward_node_belongs_to_the_module_of_its_forward_operator():
    script = Script()
    with script.module("first"), script.operator("aten::mul", sequence=5):
        pass
    with script.module("second"), script.operator("aten::mul", sequence=6):
        pass
    with script.node("MulBackward0", sequence=5) as node, script.operator("aten::mul") as inner:
        pass
    recording = script.recording()
    lineage = trace_lineage(recording)
    assert recording.strings[lineage.module[node]] == "first"
    assert recording.strings[lineage.module[inner]] == "first"


def test_of_several_operators_with_one_number_the_last_made_the_node():
    script = Script()
    # An operator that makes no node (its inputs need no gradient) carries the number that the next node will get.
    with script.module("first"), script.operator("aten::mul", sequence=7):
        pass
    with (
        script.module("second"),
        script.operator("aten::linear", sequence=7),
        script.operator("aten::addmm", sequence=7),
    ):
        pass
    with script.module("third"), script.operator("aten::mul", sequence=8):
        pass
    with script.node("AddmmBackward0", sequence=7) as node:
        pass
    recording = script.recording()
    assert recording.strings[trace_lineage(recording).module[node]] == "second"


def test_a_node_without_a_known_operator_has_no_module():
    script = Script()
    with script.module("first"), script.operator("aten::mul", sequence=1):
        pass
    with script.node("AccumulateGrad") as accumulate, script.operator("aten::add"):
        pass
    with script.node("MulBackward0", sequence=2) as unknown:
        pass
    assert not trace_lineage(script.recording()).has_module[[accumulate, unknown]].any()


def test_a_module_inside_a_node_keeps_its_own_path():
    script = Script()
    with script.module("outer"), script.operator("CheckpointFunction", sequence=3):
        pass
    with (
        script.node("CheckpointFunctionBackward", sequence=3),
        script.module("outer.0"),
        script.operator("aten::mm", sequence=4) as forward,
    ):
        pass
    with script.node("MmBackward0", sequence=4) as inner:
        pass
    recording = script.recording()
    lineage = trace_lineage(recording)
    assert [recording.strings[lineage.module[row]] for row in (forward, inner)] == ["outer.0", "outer.0"]


def test_a_module_run_inside_a_node_recomputes():
    script = Script()
    with (
        script.node("CheckpointFunctionBackward") as node,
        script.module("a") as module,
        script.operator("aten::mm") as op,
    ):
        pass
    lineage = trace_lineage(script.recording())
    assert lineage.recomputing_module[[node, module, op]].tolist() == [False, True, True]


def test_an_operator_with_gradients_on_inside_a_node_recomputes():
    script = Script()
    with script.node("MulBackward0") as node:
        with script.operator("aten::mul") as formula:  # the formula runs with gradients off: no sequence number
            pass
        with script.operator("aten::tanh", sequence=9), script.operator("aten::empty") as repeated:
            pass
    lineage = trace_lineage(script.recording())
    assert lineage.recomputing_operator[[node, formula, repeated]].tolist() == [False, False, True]


def test_a_node_inside_a_recomputation_is_a_formula_again():
    script = Script()
    with (
        script.node("CheckpointFunctionBackward"),
        script.module("a"),
        script.node("MmBackward0"),
        script.operator("aten::mm") as formula,
    ):
        pass
    lineage = trace_lineage(script.recording())
    assert not lineage.recomputing_module[formula]
    assert not lineage.recomputing_operator[formula]


def test_only_accumulation_nodes_accumulate():
    script = Script()
    with script.node("AccumulateGrad") as accumulation, script.operator("aten::add_") as inside:
        pass
    with script.node("MulBackward0") as other:
        pass
    with script.operator("aten::add") as outside:
        pass
    assert trace_lineage(script.recording()).in_accumulation[[accumulation, inside, other, outside]].tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "name", ["c10d::allreduce_", "nccl:all_reduce", "gloo:broadcast", "_c10d_functional::all_reduce"]
)
def test_collectives_are_known_by_name(name):
    script = Script()
    with script.operator(name), script.operator("aten::empty") as inside:
        pass
    with script.operator("aten::empty") as outside:
        pass
    assert trace_lineage(script.recording()).communication[[inside, outside]].tolist() == [True, False]


def test_the_optimizers_own_scope_is_known_by_name():
    script = Script()
    with script.scope(ScopeKind.USER, "Optimizer.step#AdamW.step"), script.operator("aten::mul") as inside:
        pass
    with script.scope(ScopeKind.USER, "Optimizer.zero_grad#AdamW.zero_grad"), script.operator("aten::mul") as clearing:
        pass
    assert trace_lineage(script.recording()).optimizer_step[[inside, clearing]].tolist() == [True, False]


def test_no_scopes_at_all():
    lineage = trace_lineage(Script().recording())
    assert lineage.operator.tolist() == [-1]
    assert lineage.module.tolist() == [0]
    assert lineage.has_module.tolist() == [False]
