"""Workspaces of cuBLAS where the allocator's history is not kept: told by their size and by what makes them."""

from dataclasses import replace

import pytest

from helpers import Script
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.cuda.workspaces import Workspace, with_workspaces
from vramscope.recording.recording import UNKNOWN, MarkKind, Recording, ScopeKind

ODD, HOPPER = 8_519_680, 32 << 20


def without_requests(recording: Recording) -> Recording:
    """As the profiler's events are, which know blocks alone."""
    requested = recording.events.requested.copy()
    requested[:] = UNKNOWN
    return replace(recording, events=replace(recording.events, requested=requested))


def workspaces(script: Script, of_mm: int, of_addmm: int = 0) -> list[int]:
    """Sizes of the blocks that are found to be workspaces, where these operators need such."""
    plain = without_requests(script.recording())
    kinds = [Workspace(of_mm, ("aten::mm",)), Workspace(of_addmm, ("aten::addmm",), is_certain=False)]
    ledger = Ledger(with_workspaces(plain, {plain.devices[0].name: kinds}))
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


def products(script: Script, *, threads: int, own: int = 0, size: int = HOPPER) -> None:
    """A product on each of so many threads, of which the first ``own`` make a workspace."""
    for thread in range(threads):
        with script.scope(ScopeKind.OPERATOR, "aten::mm", thread=1 + thread):
            script.alloc(100 + thread, 512)
            if thread < own:
                script.alloc(200 + thread, size)


@pytest.mark.parametrize(
    ("older", "threads", "own", "found"),
    [
        (2, 2, 0, 2),  # the calling thread's and autograd's
        (1, 2, 0, 1),  # one of them needs none
        (3, 2, 0, 0),  # one is something else, and nothing tells which
        (1, 1, 1, 1),  # the thread made its own: the older one is something else
        (1, 2, 1, 2),  # the other thread's, beside the one that was made
        (1, 0, 0, 0),  # nobody has needed one
    ],
)
def test_an_older_one_of_32_mib_is_told_by_the_threads_that_need_it(
    older: int, threads: int, own: int, found: int
) -> None:
    script = Script()
    for address in range(older):
        script.seed(1 + address, HOPPER)
    products(script, threads=threads, own=own)
    assert workspaces(script, HOPPER) == [HOPPER] * found


def test_a_tensor_of_a_workspaces_size_stays_a_tensor() -> None:
    script = Script()
    script.seed(1, HOPPER)
    script.mark(MarkKind.PARAMETER, "weight", 1)
    script.seed(2, HOPPER)
    products(script, threads=1)
    assert workspaces(script, HOPPER) == [HOPPER]


def test_a_product_that_others_make_for_it_needs_none() -> None:
    """So does one of sparse matrices, by cuSPARSE; a source line is no operator."""
    script = Script()
    script.seed(1, HOPPER)
    with script.scope(ScopeKind.OPERATOR, "aten::mm"):
        with script.scope(ScopeKind.OPERATOR, "aten::zeros"):
            script.alloc(100, 512)
        script.free(100, 512)
    assert workspaces(script, HOPPER) == [512]  # its scratch alone
    with script.scope(ScopeKind.OPERATOR, "aten::mm"), script.scope(ScopeKind.PYTHON_FRAME, "model.py"):
        script.alloc(101, 512)
    assert workspaces(script, HOPPER) == [512, HOPPER]


def test_an_older_one_of_cublaslt_is_not_guessed() -> None:
    """Some biased products need none, and many a tensor has 1 MiB."""
    script = Script()
    script.seed(1, 1 << 20)
    with script.scope(ScopeKind.OPERATOR, "aten::addmm"):
        script.alloc(100, 512)
    assert workspaces(script, HOPPER, 1 << 20) == []


def test_each_library_has_its_own() -> None:
    """Before torch 2.12 cuBLASLt, which adds biases, takes 1 MiB beside what cuBLAS takes for a product."""
    script = Script()
    script.seed(1, 1 << 20)
    products(script, threads=1)  # needs none of cuBLASLt
    with script.scope(ScopeKind.OPERATOR, "aten::addmm", thread=7):
        script.alloc(300, 512)
        script.alloc(301, 1 << 20)
    assert workspaces(script, HOPPER, 1 << 20) == [1 << 20]
