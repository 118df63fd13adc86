"""Workspaces of cuBLAS where the allocator's history is not kept: told by their size and by what makes them."""

from dataclasses import replace

import pytest

from helpers import Script
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.workspaces import with_workspaces
from vramscope.recording.recording import UNKNOWN, Recording, ScopeKind

ODD, HOPPER = 8_519_680, 32 << 20


def without_requests(recording: Recording) -> Recording:
    """As the profiler's events are, which know blocks alone."""
    requested = recording.events.requested.copy()
    requested[:] = UNKNOWN
    return replace(recording, events=replace(recording.events, requested=requested))


def workspaces(script: Script, size: int) -> list[int]:
    """Sizes of the blocks that are found to be workspaces."""
    plain = without_requests(script.recording())
    ledger = Ledger(with_workspaces(plain, {plain.devices[0].name: size}))
    return sorted(ledger.blocks.size[ledger.is_category(Category.WORKSPACE)].tolist())


@pytest.mark.parametrize("size", [ODD, HOPPER])
def test_what_a_product_makes_after_its_result_and_keeps(size: int) -> None:
    script = Script()
    with script.scope(ScopeKind.OPERATOR, "aten::mm"):
        script.alloc(1, size)  # its result may have this size too
        script.alloc(2, size)
    with script.scope(ScopeKind.OPERATOR, "aten::zeros"):
        script.alloc(3, size)
        script.alloc(4, size)
    assert workspaces(script, size) == [size]


@pytest.mark.parametrize(("size", "found"), [(ODD, [ODD]), (HOPPER, [])])
def test_an_older_one_is_told_by_its_size_alone_where_nothing_else_has_it(size: int, found: list[int]) -> None:
    script = Script()
    script.seed(1, size)
    script.seed(2, size // 2)
    assert workspaces(script, size) == found
