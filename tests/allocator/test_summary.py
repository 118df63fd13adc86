from pathlib import Path

import pytest
from snapshot_builder import KIB, MIB, Program, frame, load, recorded, training_step

from vramscope.allocator.moment import CUBLAS_WORKSPACE, PartKind
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.allocator.summary import DeviceSummary, summarise

CUBLAS_FRAME = frame("at::cuda::getCurrentCUDABlasHandle()", "??", 0)


def only_device(program: Program, folder: Path, skip: int = 0) -> DeviceSummary:
    summary = summarise(load(program.snapshot(skip), folder))
    assert summary.marks == ()
    return summary.devices[0]


def test_the_peak_and_when(tmp_path: Path) -> None:
    program = Program()
    first = program.malloc(2 * MIB)
    second = program.malloc(3 * MIB)
    program.free(first)
    program.malloc(MIB)
    device = only_device(program, tmp_path)
    # entries: segment_alloc, alloc 2, alloc 3 (the peak), free_requested, free_completed, segment_alloc, alloc 1
    assert (device.peak.entry, device.peak.layout.allocated) == (2, 5 * MIB)
    assert (device.peak.time_us, device.duration_us) == (1_000_030, 60)
    assert device.end.layout.allocated == 4 * MIB
    assert second in {block.address for block in program.simulator.in_use.values()}


def test_how_the_reserved_bytes_divide(tmp_path: Path) -> None:
    program = Program()
    whole, kept, waits = program.malloc(12 * MIB), program.malloc(11 * MIB + 100), program.malloc(700)
    program.free(whole)
    program.simulator.record_stream(waits, 5)
    program.free(waits)
    layout = only_device(program, tmp_path).end.layout
    # 12 MiB free in whole; 11 MiB + 100 in a segment of 12 MiB, whose rest is below 1 MiB; 700 bytes rounded to 1024
    # wait in a segment of 2 MiB
    assert (layout.requested, layout.slack) == (11 * MIB + 100, MIB - 100)
    assert (layout.releasable, layout.pending, layout.stuck) == (12 * MIB, 1024, 2 * MIB - 1024)
    assert (layout.largest_free, layout.segments) == (12 * MIB, 3)
    assert layout.reserved == 26 * MIB
    assert layout.reserved == layout.allocated + layout.pending + layout.releasable + layout.stuck
    assert layout.fragmentation == (2 * MIB - 1024) / (26 * MIB)
    assert kept in program.simulator.in_use


def test_whole_pages_of_expandable_segments_can_be_returned(tmp_path: Path) -> None:
    program = Program("expandable_segments:True")
    _, second = program.malloc(15 * MIB), program.malloc(40 * MIB)
    program.free(second)
    layout = only_device(program, tmp_path).end.layout
    # 55 MiB lie on 60 MiB of pages; from 15 to 60 MiB is free, and the pages from 20 on are whole
    assert (layout.releasable, layout.stuck) == (40 * MIB, 5 * MIB)


def test_composition_by_the_evidence_of_stacks(tmp_path: Path) -> None:
    program = Program()
    step = frame("step", "/lib/site-packages/torch/optim/adam.py", 9)
    engine = frame("torch::autograd::Engine::execute(…)", "??", 0)
    forward = frame("forward", "net.py", 5)
    sizes = {
        PartKind.OPTIMIZER: (2 * MIB, [step, engine]),
        PartKind.BACKWARD: (3 * MIB, [forward, engine]),  # a recomputed forward belongs to backward
        PartKind.FORWARD: (4 * MIB, [forward]),
        PartKind.WORKSPACE: (5 * MIB, [CUBLAS_FRAME, forward]),
        PartKind.COMMUNICATION: (6 * MIB, [frame("c10d::ProcessGroupNCCL::allreduce", "??", 0)]),
        PartKind.OTHER: (7 * MIB, [frame("main", "train.py", 1)]),
    }
    program.malloc(1000)
    skip = len(program.trace)
    for size, frames in sizes.values():
        program.malloc(size, frames=frames)
    parts = {part.kind: part.bytes for part in only_device(program, tmp_path, skip).peak.parts}
    assert parts == {PartKind.BEFORE: 1024, **{kind: size for kind, (size, _) in sizes.items()}}


def test_parts_and_sites_sum_to_what_is_allocated(tmp_path: Path) -> None:
    peak = only_device(training_step(), tmp_path).peak
    assert sum(part.bytes for part in peak.parts) == peak.layout.allocated
    assert sum(part.requested_bytes for part in peak.parts) == peak.layout.requested
    assert sum(site.bytes for site in peak.sites) == peak.layout.allocated
    assert sum(segment.size for segment in peak.segments) == peak.layout.reserved
    for segment in peak.segments:
        assert sum(block.size for block in segment.blocks) == segment.size


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ({"START": -1, "END": 1}, PartKind.OPTIMIZER),
        ({"START": 0, "END": 0}, PartKind.OPTIMIZER),
        ({"START": -2, "END": -1}, PartKind.OTHER),
        ({"START": 1, "END": 2}, PartKind.OTHER),
        ({"START": -1}, PartKind.OPTIMIZER),  # the snapshot was taken in it
        ({"START": 1}, PartKind.OTHER),
    ],
)
def test_the_optimizer_is_known_by_its_annotation_too(tmp_path: Path, ends: dict[str, int], kind: PartKind) -> None:
    program = Program()
    program.malloc(4 * MIB, frames=[frame("custom", "train.py", 3)])
    raw = program.snapshot()
    time = program.trace[-1]["time_us"]
    raw["external_annotations"] = [
        {"stage": stage, "name": "Optimizer.step#Mine.step", "device": 0, "time_us": time + after}
        for stage, after in ends.items()
    ]
    (part,) = summarise(load(raw, tmp_path)).devices[0].peak.parts
    assert part.kind is kind
    assert (part.known_from == "the program's Optimizer.step annotation") == (kind is PartKind.OPTIMIZER)


def test_a_site_is_the_innermost_line_of_the_programs_own(tmp_path: Path) -> None:
    program = Program()
    library = frame("linear", "/lib/python3.11/site-packages/torch/nn/functional.py", 20)
    own, caller = frame("forward", "app/net.py", 12), frame("main", "app/train.py", 3)
    program.malloc(MIB, frames=[library, own, caller])
    program.malloc(700, frames=[library])
    sites = only_device(program, tmp_path).peak.sites
    assert [(site.file, site.line, site.function, site.bytes) for site in sites] == [
        ("app/net.py", 12, "forward", MIB),
        (library["filename"], 20, "linear", 1024),
    ]


def test_cublas_workspaces_are_known_by_size_or_stack(tmp_path: Path) -> None:
    program = Program()
    program.malloc(CUBLAS_WORKSPACE)
    program.malloc(32 * MIB, frames=[CUBLAS_FRAME])
    program.malloc(32 * MIB)  # as large as the one of newer GPUs, but nothing tells that it is one
    spaces = only_device(program, tmp_path).peak.workspaces
    assert [(space.bytes, space.library) for space in spaces] == [(CUBLAS_WORKSPACE, "cuBLAS"), (32 * MIB, "cuBLAS")]


def test_the_peak_can_lie_before_the_first_entry(tmp_path: Path) -> None:
    program = Program()
    address = program.malloc(300 * KIB)
    skip = len(program.trace)
    program.free(address)
    device = only_device(program, tmp_path, skip)
    assert device.peak.entry == -1
    assert device.peak.layout.allocated == 300 * KIB


@pytest.mark.parametrize(
    ("name", "workspaces"),
    [
        ("medium_256_training", [8_519_680, 8_519_680]),  # one per thread: main and autograd's
        ("medium_256_inference", [8_519_680]),
        ("forward_128_segments", [33_554_432]),  # 32 MiB: a newer GPU
    ],
)
def test_the_cublas_workspaces_of_the_recordings(name: str, workspaces: list[int]) -> None:
    (device,) = summarise(read_snapshot(recorded(name))).devices
    assert [space.bytes for space in device.peak.workspaces] == workspaces
    assert sum(part.bytes for part in device.peak.parts) == device.replay.peak_allocated
