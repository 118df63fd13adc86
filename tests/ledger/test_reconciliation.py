"""From tensors to what nvidia-smi shows, on recordings of GPUs that were never there."""

from pathlib import Path

import pytest
from tests.allocator.snapshot_builder import GIB, MIB
from tests.recorders.cuda_run import CudaRun

from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.reconciliation import Reconciliation, reconcile
from vramscope.ledger.summary import summarize_ledger
from vramscope.recorders.cuda.history_joining import with_history

TOTAL, CONTEXT, OTHERS = 80 * GIB, 400 * MIB, 3 * GIB


def reserved(run: CudaRun) -> int:
    return run.program.simulator.totals.reserved


def step(run: CudaRun, index: int, size: int, context: int = CONTEXT) -> None:
    """One step that holds a block of ``size`` when it is looked at, at the end of its forward phase."""
    with run.step(index):
        with run.phase("forward"), run.operator("aten::relu"):
            block = run.malloc(size)
            waiting = run.malloc(3 * MIB)
            run.release(waiting, used_on=[1])
            own = reserved(run) + context
            run.sample(own + OTHERS, own, TOTAL, driver=GIB)
        run.release(block)


@pytest.fixture
def sums(tmp_path: Path) -> Reconciliation:
    run = CudaRun()
    run.older(10 * MIB)
    step(run, 0, 40 * MIB, context=2 * CONTEXT)  # the cold step does not count
    step(run, 1, 24 * MIB + 100)
    step(run, 2, 30 * MIB + 100)
    ledger = Ledger(with_history(run.recording(), run.history(tmp_path), {}))
    found = summarize_ledger(ledger).devices[0].reconciliation
    assert found is not None
    return found


def test_every_line_adds_up_to_what_the_driver_says(sums: Reconciliation) -> None:
    assert sums.adds_up()
    requested = sum(sums.requested_by_category.values())
    assert requested + sums.slack_bytes == sums.allocated_bytes
    assert sums.allocated_bytes + sums.pending_bytes + sums.cached_bytes == sums.reserved_bytes
    assert sums.outside_bytes == CONTEXT
    assert sums.process_bytes == sums.reserved_bytes + CONTEXT
    assert sums.others_bytes == OTHERS
    assert sums.used_bytes + sums.free_bytes + sums.driver_bytes == TOTAL


def test_the_fullest_steady_moment_is_taken(sums: Reconciliation) -> None:
    # step 2: 30 MiB and 100 B are asked for; the block is split out of a cached segment of 40 MiB, to the next 512 B
    assert sums.requested_by_category[Category.ACTIVATIONS] == 30 * MIB + 100
    assert sums.slack_bytes == 412
    assert sums.requested_by_category[Category.UNATTRIBUTED] == 10 * MIB
    assert sums.allocator_requested_bytes == sum(sums.requested_by_category.values())
    assert sums.phase == "forward"


def test_freed_memory_that_waits_for_a_stream_stands_apart(sums: Reconciliation) -> None:
    assert sums.pending_bytes % (3 * MIB) == 0
    assert sums.pending_bytes >= 3 * MIB


def test_what_the_ledger_never_saw_is_unattributed() -> None:
    run = CudaRun()
    with run.step(0), run.phase("forward"):
        run.malloc(2 * MIB)
        run.program.malloc(4 * MIB)  # another thread's
        run.sample(GIB, None, TOTAL)
    found = reconcile(Ledger(run.recording()), 0, 1, 0)
    assert found is not None
    assert found.requested_by_category[Category.UNATTRIBUTED] == 6 * MIB
    assert found.adds_up()


def test_without_this_processs_share_the_rest_is_one_line() -> None:
    run = CudaRun()
    with run.step(0), run.phase("forward"):
        run.malloc(2 * MIB)
        run.sample(GIB, None, TOTAL)
    found = reconcile(Ledger(run.recording()), 0, 1, 0)
    assert found is not None
    assert (found.outside_bytes, found.others_bytes) == (None, None)
    assert found.beyond_bytes == GIB - reserved(run)


def test_figures_that_contradict_each_other_are_noticed() -> None:
    run = CudaRun()
    with run.step(0), run.phase("forward"):
        run.malloc(2 * MIB)
        run.sample(GIB, process=MIB, total=TOTAL)  # less than the allocator alone has reserved
    found = reconcile(Ledger(run.recording()), 0, 1, 0)
    assert found is not None
    assert not found.adds_up()


def test_a_device_that_was_never_read_has_none() -> None:
    run = CudaRun()
    with run.step(0):
        run.malloc(2 * MIB)
    assert reconcile(Ledger(run.recording()), 0, 1, 0) is None
    assert summarize_ledger(Ledger(run.recording())).devices[0].process_used_bytes is None


def test_the_devices_figures_of_the_pass_are_of_that_moment(sums: Reconciliation, tmp_path: Path) -> None:
    run = CudaRun()
    step(run, 0, 4 * MIB)
    then = reserved(run)
    run.malloc(30 * MIB)  # the cache grows after the device was read
    device = summarize_ledger(Ledger(run.recording())).devices[0]
    assert device.reserved_peak_bytes == then + 30 * MIB
    assert device.process_used_bytes == then + CONTEXT
    assert device.outside_allocator_bytes == CONTEXT


def test_each_pool_is_held_against_the_allocators_word(tmp_path: Path) -> None:
    run = CudaRun()
    for size in (100, MIB - 1, MIB, MIB + 1):  # the last one is rounded to 1 MiB and 512 B, a block of the large pool
        run.malloc(size)
    run.release(run.malloc(200))
    run.sample(TOTAL, None, TOTAL)
    found = reconcile(Ledger(with_history(run.recording(), run.history(tmp_path), {})), 0, 6, 0)
    assert found is not None
    assert found.small_pool_bytes == found.allocator_small_pool_bytes == 512 + 2 * MIB
    assert found.allocated_bytes == found.small_pool_bytes + MIB + 512
