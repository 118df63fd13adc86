"""The allocator's history joined to the profiler's events, on programs that the simulator runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.allocator.snapshot_builder import KIB, MIB, frame
from tests.helpers import assert_agrees
from tests.recorders.cuda_run import CudaRun

from vramscope.ledger.autopsy import autopsy
from vramscope.ledger.categories import Category
from vramscope.ledger.holders import held_blocks
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import summarize_ledger
from vramscope.recorders.cuda.history_joining import with_history
from vramscope.recorders.cuda.workspaces import Workspace
from vramscope.recording.recording import UNKNOWN, Recording

WORKSPACE_BYTES = 8_519_680
WORKSPACES = {"cuda:0": [Workspace(WORKSPACE_BYTES, ("aten::mm", "aten::addmm"))]}


def joined(run: CudaRun, folder: Path) -> Recording:
    return with_history(run.recording(), run.history(folder), WORKSPACES)


def test_requests_of_every_allocation_are_known(tmp_path: Path) -> None:
    run = CudaRun()
    first = run.malloc(100)
    run.release(first)
    run.malloc(700)  # the same place again: told apart by its turn
    run.malloc(3 * MIB + 5)
    recording = joined(run, tmp_path)
    births = recording.events.size > 0
    assert recording.events.requested[births].tolist() == [100, 700, 3 * MIB + 5]
    assert recording.notes == ()


def test_rounding_is_what_blocks_hold_beyond_requests(tmp_path: Path) -> None:
    run = CudaRun()
    with run.step(0):
        run.malloc(100)  # 512
        run.malloc(1000)  # 1,024
    peak = summarize_ledger(Ledger(joined(run, tmp_path))).peak
    assert (peak.bytes, sum(peak.requested_by_category.values())) == (1536, 1100)


def test_events_of_threads_nobody_recorded_leave_their_address_unknown(tmp_path: Path) -> None:
    run = CudaRun()
    run.release(run.malloc(100))
    unseen = run.program.malloc(200)  # another thread's, at the same place
    run.program.free(unseen)
    run.malloc(2 * MIB)
    recording = joined(run, tmp_path)
    assert recording.events.requested[[0, 2]].tolist() == [UNKNOWN, 2 * MIB]
    assert "2 of 3 events are not told apart" in recording.notes[0]


def test_a_history_that_asks_for_more_than_the_block_is_not_believed(tmp_path: Path) -> None:
    run = CudaRun()
    run.malloc(100)
    run.program.trace[-1]["size"] = 4096
    recording = joined(run, tmp_path)
    assert recording.events.requested[0] == UNKNOWN
    assert any("not believed" in note for note in recording.notes)


def test_stacks_become_the_innermost_scopes(tmp_path: Path) -> None:
    stack = [frame("relu", "torch/nn/functional.py", 9), frame("forward", "model.py", 12), frame("main", "train.py", 3)]
    library = "/env/lib/python3.12/site-packages/torch/nn/functional.py"
    stack[0]["filename"] = library
    run = CudaRun()
    with run.operator("aten::relu"):
        run.malloc(MIB * 2, frames=stack)
    ledger = Ledger(joined(run, tmp_path))
    sites = summarize_ledger(ledger).sites
    assert [(site.file, site.line, site.function) for site in sites] == [("model.py", 12, "forward")]
    scope = int(ledger.recording.events.scope[0])
    caller = int(ledger.recording.scopes.parent[scope])
    assert ledger.recording.strings[ledger.recording.scopes.name[caller]] == "train.py|main"
    assert ledger.operator_at(0) == "aten::relu"
    (largest,) = held_blocks(ledger, 0, 5)
    assert [(line.file, line.line) for line in largest.stack] == [("model.py", 12), ("train.py", 3)]


def test_the_workspace_of_a_matrix_product_is_told_from_its_result(tmp_path: Path) -> None:
    run = CudaRun()
    with run.step(0), run.phase("forward"), run.module("fc"):
        with run.operator("aten::mm"):
            run.malloc(WORKSPACE_BYTES)  # a result that happens to be as large: made first
            run.malloc(WORKSPACE_BYTES)  # made by the library, and kept
        with run.operator("aten::mm"):
            run.malloc(WORKSPACE_BYTES)  # the second product has its workspace already
    peak = summarize_ledger(Ledger(joined(run, tmp_path))).peak
    assert peak.by_category[Category.WORKSPACE] == WORKSPACE_BYTES
    assert peak.by_category[Category.ACTIVATIONS] == 2 * WORKSPACE_BYTES


def test_a_workspace_from_before_is_known_by_its_odd_size(tmp_path: Path) -> None:
    run = CudaRun()
    run.older(WORKSPACE_BYTES)
    run.older(3 * MIB)
    run.malloc(512)
    ledger = Ledger(joined(run, tmp_path))
    held = ledger.composition(0)
    # 8,519,680 is a multiple of 512, and its segment of 10 MiB is split
    assert held[Category.WORKSPACE] == WORKSPACE_BYTES
    assert held[Category.UNATTRIBUTED] == 3 * MIB + 512


def test_scratch_of_a_workspaces_size_is_no_workspace_to_keep(tmp_path: Path) -> None:
    run = CudaRun()
    with run.step(0), run.phase("forward"), run.operator("aten::mm"):
        run.malloc(512)
        run.release(run.malloc(WORKSPACE_BYTES))
    recording = joined(run, tmp_path)
    assert len(recording.marks) == 0


def test_the_cache_at_the_peak_is_known(tmp_path: Path) -> None:
    run = CudaRun()
    with run.step(0):
        small = [run.malloc(512 * KIB) for _ in range(4)]  # one small segment of 2 MiB
        run.release(small[1])  # stuck between blocks in use
        large = run.malloc(30 * MIB)
        run.release(large)  # a whole segment of 30 MiB
        run.malloc(40 * MIB)
    device = summarize_ledger(Ledger(joined(run, tmp_path))).devices[0]
    assert device.fragments is not None
    assert (device.fragments.stuck_bytes, device.fragments.releasable_bytes) == (512 * KIB, 30 * MIB)
    assert (device.fragments.largest_free_bytes, device.fragments.segments) == (30 * MIB, 3)
    assert device.reserved_peak_bytes == 72 * MIB  # 2 + 30 + 40


def test_blocks_that_wait_for_a_stream_are_pending_at_the_peak(tmp_path: Path) -> None:
    run = CudaRun()
    with run.step(0):
        run.release(run.malloc(4 * MIB), used_on=[1])
        run.malloc(6 * MIB)
    device = summarize_ledger(Ledger(joined(run, tmp_path))).devices[0]
    assert device.fragments is not None
    assert device.fragments.pending_bytes == 4 * MIB


@pytest.mark.parametrize("settings", ["", "expandable_segments:True"])
def test_streams_private_pools_and_older_blocks_add_up_at_every_event(tmp_path: Path, settings: str) -> None:
    run = CudaRun(settings)
    older = run.older(5 * MIB)
    with run.step(0), run.operator("aten::empty"):
        one = run.malloc(3 * MIB, stream=1)
        captured = run.malloc(3 * MIB, pool=(0, 1))  # a CUDA graph's own pool
        run.release(one)
        run.malloc(3 * MIB, stream=2)
        run.release(older)
        run.release(captured)
        run.malloc(2 * MIB)
    ledger = Ledger(joined(run, tmp_path))
    assert_agrees(ledger)
    assert ledger.initial_bytes() == 5 * MIB
    # 5 older, 3 on stream 1 and 3 in the pool; stream 2 cannot take what stream 1 gave back: 3 more, none freed before
    assert ledger.peak().bytes == 11 * MIB
    held = ledger.composition(ledger.peak().event)
    # what the operator made it also freed; of the older block nobody knows whose it is
    assert (held[Category.WORKSPACE], held[Category.UNATTRIBUTED]) == (6 * MIB, 5 * MIB)


def test_an_allocation_that_failed_is_known_to_the_byte(tmp_path: Path) -> None:
    run = CudaRun(capacity=64 * MIB)
    with run.step(0), run.phase("forward"), run.module("layer"), run.operator("aten::mm"):
        kept = [run.malloc(20 * MIB) for _ in range(2)]
        run.release(kept[0])
        run.malloc(12 * MIB + 100)  # out of the freed 20 MiB
        with run.failing(30 * MIB + 7):
            pass
    run.program.trace[-1]["device_free"] = 24 * MIB
    found = autopsy(Ledger(joined(run, tmp_path)))
    assert found is not None
    assert (found.asked_bytes, found.available_bytes) == (30 * MIB + 7, 24 * MIB)
    assert (found.phase, found.module, found.operator) == ("forward", "layer", "aten::mm")
    assert found.fragments is not None
    # what is left of the first segment is stuck; a new segment could take what the device has free
    assert found.fragments.stuck_bytes == found.reserved_bytes - found.held_bytes
    assert found.fitting_bytes == 24 * MIB
    assert found.short_bytes == 6 * MIB + 7


def test_what_the_allocator_gave_back_before_it_failed_is_not_counted_twice(tmp_path: Path) -> None:
    run = CudaRun(capacity=64 * MIB)
    with run.step(0), run.operator("aten::mm"):
        run.malloc(20 * MIB)
        run.release(run.malloc(30 * MIB))  # a whole segment, which goes back to the device before the failure
        with run.failing(50 * MIB):
            pass
    run.program.trace[-1]["device_free"] = 44 * MIB  # 64 - 20
    found = autopsy(Ledger(joined(run, tmp_path)))
    assert found is not None and found.fragments is not None
    assert found.fragments.releasable_bytes == 0
    assert found.fitting_bytes == 44 * MIB


def test_a_recording_of_the_cpu_alone_is_left_as_it_is(tmp_path: Path) -> None:
    run = CudaRun()
    run.malloc(100)
    plain = run.recording()
    on_cpu = replace(plain, devices=(replace(plain.devices[0], name="cpu"),))
    recording = with_history(on_cpu, run.history(tmp_path), WORKSPACES)
    assert np.array_equal(recording.events.requested, on_cpu.events.requested)
