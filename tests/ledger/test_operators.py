"""Operators, the tree of modules, and the largest blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import MarkKind, Script
from views.samples import ACTIVATION, WEIGHT, comparison, training
from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import Category
from vramscope.ledger.largest import NO_BLOCK, describe_block, largest_alive
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.module_tree import module_tree
from vramscope.ledger.operators import NO_OPERATOR, OperatorRow, operator_rows


def test_operators_sum_to_the_peak() -> None:
    for name, summary in comparison().passes.items():
        rows = operator_rows(comparison().ledgers[name])
        assert sum(row.bytes_at_peak for row in rows) == summary.peak.bytes


def test_what_operators_hold() -> None:
    rows = {row.name: row for row in operator_rows(Ledger(training()))}
    # the steady step: both activations together at the end of forward, one of them left at the peak
    assert rows["aten::linear"] == OperatorRow("aten::linear", ACTIVATION, 2 * ACTIVATION, 2 * ACTIVATION, 2)
    assert rows["aten::mm"] == OperatorRow("aten::mm", 2 * WEIGHT, 2 * WEIGHT, 2 * WEIGHT, 2)
    # the weights were made outside every operator, before the steady step
    assert rows[NO_OPERATOR] == OperatorRow(NO_OPERATOR, 2 * WEIGHT, 2 * WEIGHT, 0, 0)


def test_operators_that_ran_in_no_steady_step_are_left_out() -> None:
    script = Script()
    for index in range(2):
        with script.step(index), script.operator(f"aten::of_step_{index}"):
            script.alloc(0x10, 8)
            script.free(0x10, 8)
    with script.operator("aten::after"):
        script.alloc(0x20, 8)
    assert operator_rows(script.ledger()) == (OperatorRow("aten::of_step_1", 8, 8, 8, 1),)


def test_the_tree_adds_up() -> None:
    found = comparison(names=("body.first", "body.deep.second"))
    nodes = {node.path: node for node in module_tree(found.passes["training"])}
    # "body" and "body.deep" are no rows of the summary, and are there all the same, above what they hold
    assert list(nodes) == ["", "body", "body.first", "body.deep", "body.deep.second"]
    assert nodes["body.deep.second"].parent == "body.deep"
    assert nodes["body"].inclusive.parameter_bytes == 2 * WEIGHT
    assert nodes["body.deep"].inclusive.retained_bytes == ACTIVATION
    assert nodes[""].inclusive.gradient_bytes == 2 * WEIGHT
    assert nodes["body"].own.parameter_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50)), max_size=40), st.integers(1, 4))
def test_the_largest_blocks_are_those_of_a_plain_search(actions: list[tuple[int, int]], count: int) -> None:
    script, held = Script(devices=2), dict[int, int]()
    script.seed(0x900, 7)
    for place, size in actions:
        address, device = 0x100 * (place + 1), place % 2
        if address in held:
            script.free(address, held.pop(address), device)
        else:
            held[address] = size
            script.alloc(address, size, device)
    ledger = script.ledger()
    events = np.arange(BEFORE, len(ledger))
    for device in range(2):
        found = largest_alive(ledger, events, count, device)
        for event, blocks in zip(events.tolist(), found.tolist(), strict=True):
            alive = ledger.blocks.alive_after(event) & (ledger.blocks.device == device)
            sizes = sorted(ledger.blocks.size[alive].tolist(), reverse=True)
            assert [int(ledger.blocks.size[block]) for block in blocks if block != NO_BLOCK] == sizes[:count]


@pytest.mark.parametrize("addresses", [(0x10, 0x20, 0x30, 0x40), (0x40, 0x30, 0x20, 0x10)])
def test_equal_blocks_come_in_the_order_of_their_lives_wherever_they_lie(addresses: tuple[int, ...]) -> None:
    script = Script()
    for address in addresses[:2]:  # older than the recording, so the order is that in which the model has them
        script.seed(address, 8)
    for address, name in zip(addresses, ("first", "second"), strict=False):
        script.mark(MarkKind.PARAMETER, name, address)
    for address in addresses[2:]:
        script.alloc(address, 8)
    ledger = script.ledger()
    (found,) = largest_alive(ledger, np.array([len(ledger) - 1]), 4)
    assert ledger.blocks.address[found].tolist() == list(addresses)


def test_a_block_in_words() -> None:
    ledger = Ledger(training())
    blocks = [describe_block(ledger, row) for row in range(len(ledger.blocks))]
    weight = next(facts for facts in blocks if facts.label == "second.weight" and facts.phase == "build")
    assert (weight.size_bytes, weight.category, weight.module) == (WEIGHT, Category.PARAMETERS, "second")
    assert all(facts.operator is None for facts in blocks if facts.category == Category.PARAMETERS)
    activation = next(facts for facts in blocks if facts.category == Category.ACTIVATIONS)
    assert (activation.module, activation.operator, activation.phase) == ("first", "aten::linear", "forward")
