"""What grows from step to step, on recordings written by hand."""

from contextlib import nullcontext

import pytest

from helpers import Script
from vramscope.ledger.categories import Category
from vramscope.ledger.growth import Growth, GrowthSum, Origin
from vramscope.ledger.sites import NO_PYTHON_FRAME
from vramscope.recording.recording import ScopeKind

UNLINED = Origin(Category.ACTIVATIONS, "a", "aten::mul", NO_PYTHON_FRAME, 0, "")
LINED = Origin(Category.ACTIVATIONS, "a", "aten::mul", "model.py", 7, "forward")


def leaking(steps: int, lines: bool = False) -> Script:
    """Each step leaves 10 bytes and its index behind; nothing else is left by every step."""
    script = Script()
    with script.module("a"), script.operator("aten::mul"):
        script.alloc(0x1, 999)  # before the first step
    for index in range(steps):
        with script.step(index), script.phase("forward"), script.module("a"):
            with script.operator("aten::mul"), script.line(7) if lines else nullcontext():
                script.alloc(0x100 + index, 10 + index)
            with script.operator("aten::add"):
                if index:
                    script.free(0x200 + index - 1, 5)  # what a step leaves goes in the next one, as gradients do
                script.alloc(0x200 + index, 5)
            if index != 1:
                with script.operator("aten::cat"):
                    script.alloc(0x300 + index, 100)
    script.free(0x100, 10)  # after the last step
    return script


def growth(*scripts: Script) -> tuple[Growth, ...]:
    found = GrowthSum()
    for script in scripts:
        found.add(script.ledger())
    return found.rows()


@pytest.mark.parametrize(
    ("steps", "rows"),
    [
        (2, ()),
        (3, (Growth(UNLINED, (10 + 11) // 2, 1.0, 2),)),  # of the last step nobody knows yet what it leaves
        (4, (Growth(UNLINED, (10 + 11 + 12) // 3, 1.0, 3),)),
    ],
)
def test_what_every_step_but_the_last_leaves_behind_grows(steps: int, rows: tuple[Growth, ...]) -> None:
    assert growth(leaking(steps)) == rows


def test_windows_add_up() -> None:
    # 10 + 11 + 12 in three steps, 10 + 11 in two
    assert growth(leaking(4), leaking(3)) == (Growth(UNLINED, (33 + 21) // 5, 1.0, 5),)


def test_where_the_line_is_known_it_stands_for_the_same_without() -> None:
    other = Script()
    for index in range(3):
        with other.step(index):
            other.alloc(0x100 + index, 2)
    assert growth(leaking(3), leaking(4, lines=True), other) == (
        Growth(LINED, 33 // 3, 1.0, 3),
        Growth(Origin(Category.UNATTRIBUTED, "", "", NO_PYTHON_FRAME, 0, ""), 2, 1.0, 2),
    )


def test_what_no_operator_made_is_called_by_its_node_or_graph_and_the_most_comes_first() -> None:
    script = Script()
    for index in range(3):
        with script.step(index):
            script.alloc(0x100 + index, 5)
            with script.phase("backward"), script.node("MulBackward0"):
                for place in (0x200, 0x300):
                    script.alloc(place + index, 25)
            with script.phase("forward"), script.scope(ScopeKind.COMPILED_GRAPH, "graph 0"):
                script.alloc(0x400 + index, 70)
    rows = growth(script)
    assert [(row.origin.category, row.origin.operator, row.bytes_per_step, row.blocks_per_step) for row in rows] == [
        (Category.ACTIVATIONS, "graph 0", 70, 1.0),
        (Category.ACTIVATION_GRADIENTS, "MulBackward0", 50, 2.0),
        (Category.UNATTRIBUTED, "", 5, 1.0),
    ]
