"""What is read of GPUs besides the profiler's events, with torch and NVML answering as a GPU would make them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import Script
from tests.recorders.fake_nvml import GIB, OWN_PID, FakeCuda, FakeGpu, FakeNvml

from vramscope.recorders.conversion import StringTable
from vramscope.recorders.cuda import workspaces
from vramscope.recorders.cuda.gpu import GpuRecorder
from vramscope.recorders.cuda.stacks import telling_frames
from vramscope.recorders.cuda.workspaces import workspaces_of
from vramscope.recorders.device_order import with_main_device, without_idle_devices
from vramscope.recorders.labels import Label
from vramscope.recorders.seeds import SeedWatch
from vramscope.recording.counters import DeviceCounter
from vramscope.recording.recording import Device, Events, MarkKind, Marks

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
DEVICES = [GPU, CPU]
SEGMENTS: list[dict[str, Any]] = [
    {
        "device": 0,
        "address": 1000,
        "blocks": [
            {"size": 512, "requested_size": 100, "state": "active_allocated"},
            {"size": 1024, "requested_size": 0, "state": "inactive"},
            {"size": 2048, "requested_size": 2000, "state": "active_allocated"},
            {"size": 512, "requested_size": 512, "state": "active_pending_free"},
        ],
    },
    {"device": 1, "address": 9000, "blocks": [{"size": 512, "requested_size": 1, "state": "active_allocated"}]},
]
STATISTICS = {
    "allocated_bytes.all.current": 2560,
    "requested_bytes.all.current": 2100,
    "active_bytes.all.current": 3072,
    "reserved_bytes.all.current": 4096,
    "allocated_bytes.all.peak": 5000,
}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda(monkeypatch, reserved=4096, has_context=True)
    FakeNvml(monkeypatch, [FakeGpu(processes=[(OWN_PID, 3 * GIB)])])
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda include_traces: SEGMENTS)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: STATISTICS)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    yield fake


def recorder(*, own_process: bool = False) -> GpuRecorder:
    return GpuRecorder(DEVICES, history=False, own_process=own_process)


def label(address: int, size: int) -> Label:
    return Label(MarkKind.PARAMETER, "weight", "", address, size, GPU)


def test_older_blocks_are_those_the_allocator_lists(cuda: FakeCuda) -> None:
    seeds = SeedWatch(DEVICES)
    recorder().look_at_blocks(seeds)
    seeds.watch([label(1000, 100), label(7777, 64)])  # the second lies in memory from elsewhere
    rows = seeds.rows({}, Events.from_rows([]), Marks.from_rows([]))
    # the third block begins behind the second: 1000 + 512 + 1024
    assert rows.address.tolist() == [1000, 2536]
    assert rows.size.tolist() == [512, 2048]
    assert rows.requested.tolist() == [100, 2000]
    assert [item.address for item in seeds.labels] == [1000, 7777]


def test_a_sample_is_torchs_and_the_drivers_word_at_one_moment(cuda: FakeCuda) -> None:
    gpu, strings = recorder(), StringTable()
    number = gpu.sample()
    rows = gpu.counters({number: 42}, strings)
    names = strings.strings()
    values = {names[name]: value for _, name, _, value in rows}
    assert {time_ns for time_ns, *_ in rows} == {42}
    assert values[DeviceCounter.ALLOCATED] == 2560
    assert values[DeviceCounter.RESERVED] == 4096
    assert values[DeviceCounter.PROCESS] == 3 * GIB
    assert values[DeviceCounter.USED] + values[DeviceCounter.FREE] + values[DeviceCounter.DRIVER] == 80 * GIB
    assert DeviceCounter.PEAK not in values  # the program may be watching it


def test_a_sample_that_is_not_on_the_clock_is_left_out(cuda: FakeCuda) -> None:
    gpu = recorder()
    gpu.sample()
    assert gpu.counters({}, StringTable()) == []


def test_torchs_own_peak_is_read_only_in_a_process_of_ours(cuda: FakeCuda) -> None:
    gpu, strings = recorder(own_process=True), StringTable()
    gpu.steady_steps_begin()
    values = {name: value for _, name, _, value in gpu.counters({gpu.sample(): 1}, strings)}
    assert values[strings.number(DeviceCounter.PEAK)] == 5000


def test_a_gpu_that_the_process_does_not_use_is_not_touched(cuda: FakeCuda) -> None:
    cuda.has_context = False
    gpu = recorder()
    assert gpu.counters({gpu.sample(): 1}, StringTable()) == []


def test_a_recording_says_how_the_processs_share_was_known(cuda: FakeCuda) -> None:
    gpu = recorder()
    gpu.sample()
    script = Script()
    script.alloc(1, 512)
    recording = gpu.complete(script.recording())
    assert recording.environment["devices"] == {"cuda:0": "NVML's own figure for this process"}


def test_idle_devices_are_left_out_and_others_renumbered() -> None:
    script = Script(devices=4)
    script.alloc(1, 512, device=3)
    script.mark(MarkKind.PARAMETER, "weight", 1, device=3)
    plain = script.recording()
    names = ("cuda:0", "cpu", "cuda:1", "cuda:2")
    devices = tuple(Device(name, name, 0, 0) for name in names)
    kept = without_idle_devices(replace(plain, devices=devices))
    assert [device.name for device in kept.devices] == ["cuda:0", "cpu", "cuda:2"]
    assert (kept.events.device.tolist(), kept.marks.device.tolist()) == ([2], [2])
    assert np.array_equal(kept.events.size, plain.events.size)


def test_what_a_recording_left_alive_is_carried_by_the_name_of_its_device(cuda: FakeCuda) -> None:
    seeds = SeedWatch([GPU, CPU])
    recorder().look_at_blocks(seeds)  # the GPU's two blocks, and no other is there
    for place in (("cuda:0", 5000), ("cpu", 7000), ("cuda:3", 8000), ("cpu", 7000)):
        seeds.carry(place, 64, None)
    rows = seeds.rows({}, Events.from_rows([]), Marks.from_rows([]))
    carried = rows.size == 64
    assert (rows.address[carried].tolist(), rows.device[carried].tolist()) == ([7000], [1])


def test_the_main_device_stands_first_and_the_others_keep_their_order() -> None:
    script = Script(devices=3)
    for device in range(3):
        script.alloc(1 + device, 512 * (1 + device), device=device)
        script.seed(9, 64, device=device)
    plain = replace(script.recording(), devices=tuple(Device(name, name, 0, 0) for name in ("cpu", "cuda:0", "cuda:1")))
    turned = with_main_device(plain, "cuda:1")
    assert [device.name for device in turned.devices] == ["cuda:1", "cpu", "cuda:0"]
    assert turned.events.device.tolist() == [1, 2, 0]  # sizes 512, 1024 and 1536 of cpu, cuda:0 and cuda:1
    assert turned.seeds.device.tolist() == [1, 2, 0]
    assert with_main_device(plain, "cuda:7") is plain is with_main_device(plain, "cpu")


@pytest.mark.parametrize(
    ("configured", "major", "expected"),
    [("", 8, 8_519_680), ("", 9, 32 << 20), (":16:8", 9, 16 * 8 * 1024), (":4096:2:16:8", 9, 8_519_680)],
)
def test_the_workspaces_size_is_cublass(
    monkeypatch: pytest.MonkeyPatch, configured: str, major: int, expected: int
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", configured)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (major, 0))
    assert workspaces_of({"cuda:0": 0})["cuda:0"][0].size == expected


@pytest.mark.parametrize(
    ("torch_version", "unified", "configured", "expected"),
    [
        ((2, 11), "", "", [1 << 20]),
        ((2, 11), "", "4096", [4096 * 1024]),
        ((2, 11), "1", "", []),
        ((2, 12), "", "", []),
        ((2, 12), "0", "", [1 << 20]),
    ],
)
def test_cublaslt_has_a_workspace_of_its_own_or_shares(
    monkeypatch: pytest.MonkeyPatch, torch_version: tuple[int, int], unified: str, configured: str, expected: list[int]
) -> None:
    monkeypatch.setattr(workspaces, "TORCH", torch_version)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    for name, value in (
        ("TORCH_CUBLASLT_UNIFIED_WORKSPACE", unified),
        ("CUBLASLT_WORKSPACE_SIZE", configured),
    ):
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    assert [kind.size for kind in workspaces_of({"cuda:0": 0})["cuda:0"][1:]] == expected


def test_a_stack_without_anybodys_code_tells_nothing() -> None:
    assert telling_frames([]) == []
