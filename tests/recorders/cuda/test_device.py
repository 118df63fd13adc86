"""The device recorder against a stand-in for NVML at the library's boundary."""

import pynvml
import pytest
import torch
from tests.recorders.fake_nvml import GIB, OWN_PID, FakeCuda, FakeGpu, FakeNvml

from vramscope.recorders.cuda.device import DIVIDED, FROM_GROWTH, FROM_NVML, NOT_TOLD, DeviceMeter, Nvml

GPU = torch.device("cuda", 0)


def test_a_process_that_is_listed_has_nvmls_own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [FakeGpu(processes=[(1, GIB), (OWN_PID, 3 * GIB)])])
    meter = DeviceMeter(GPU)
    use = meter.read()
    assert (use.process_bytes, use.used_bytes, use.driver_bytes) == (3 * GIB, 6 * GIB, GIB)
    assert use.used_bytes + use.free_bytes + use.driver_bytes == use.total_bytes
    assert meter.method == FROM_NVML


def test_a_gpu_is_found_by_its_number_whatever_its_place_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    others = [FakeGpu(names=("GPU-other",), used=GIB), FakeGpu(used=7 * GIB)]
    FakeNvml(monkeypatch, others)
    assert DeviceMeter(GPU).read().used_bytes == 7 * GIB


def test_a_gpu_is_found_by_its_place_on_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [FakeGpu(names=("00000000:17:00.0",), used=5 * GIB)])
    assert DeviceMeter(GPU).read().used_bytes == 5 * GIB


def test_in_a_container_the_growth_stands_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    gpu = FakeGpu(used=4 * GIB, processes=[(OWN_PID + 1, 4 * GIB)])
    FakeNvml(monkeypatch, [gpu])
    meter = DeviceMeter(GPU)
    gpu.used = 9 * GIB
    assert meter.read().process_bytes == 5 * GIB  # 9 - 4
    assert meter.method == FROM_GROWTH


def test_a_process_that_used_the_gpu_before_cannot_tell_its_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch, has_context=True)
    FakeNvml(monkeypatch, [FakeGpu()])
    meter = DeviceMeter(GPU)
    assert meter.read().process_bytes is None
    assert meter.method == NOT_TOLD


@pytest.mark.parametrize("listed", [GIB, None], ids=["less than is reserved", "not available"])
def test_a_figure_that_cannot_be_ours_is_not_taken(monkeypatch: pytest.MonkeyPatch, listed: int | None) -> None:
    # another namespace's process may have our number: it cannot hold less than our allocator has reserved (2 GiB)
    FakeCuda(monkeypatch, has_context=True)
    FakeNvml(monkeypatch, [FakeGpu(processes=[(OWN_PID, listed)])])
    assert DeviceMeter(GPU).read().process_bytes is None


def test_a_part_of_a_divided_gpu_is_asked_by_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    part = FakeGpu(names=("MIG-5a5a5a5a-0000-1111-2222-333344445555",), used=2 * GIB)
    FakeNvml(monkeypatch, [part])
    assert DeviceMeter(GPU).read().used_bytes == 2 * GIB


def test_a_divided_gpu_whose_parts_cannot_be_told_apart_is_left_to_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [FakeGpu(names=("00000000:17:00.0",), divided=True)])
    meter = DeviceMeter(GPU)
    use = meter.read()
    assert meter.problem == DIVIDED
    assert (use.used_bytes, use.free_bytes, use.process_bytes) == (10 * GIB, 70 * GIB, None)  # of mem_get_info


def test_an_old_driver_counts_its_own_memory_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [FakeGpu(has_v2=False)])
    use = DeviceMeter(GPU).read()
    assert (use.used_bytes, use.driver_bytes) == (7 * GIB, 0)  # 6 used and 1 kept
    assert use.process_bytes == 0  # which grew by nothing: such a driver lists no processes for today's pynvml
    assert use.used_bytes + use.free_bytes == use.total_bytes


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "the driver is not installed"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "this user may not ask it"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
    ],
)
def test_without_nvml_cuda_tells_what_it_can(monkeypatch: pytest.MonkeyPatch, error: int, said: str) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [FakeGpu()], init_error=error)
    meter = DeviceMeter(GPU)
    use = meter.read()
    assert said in meter.problem and said in meter.method
    assert (use.used_bytes, use.process_bytes) == (10 * GIB, None)


def test_nvml_that_stops_answering_is_replaced_by_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    library = FakeNvml(monkeypatch, [FakeGpu(processes=[(OWN_PID, 3 * GIB)])])
    meter = DeviceMeter(GPU)
    assert meter.read().process_bytes == 3 * GIB
    library.refuses = pynvml.NVML_ERROR_GPU_IS_LOST
    assert meter.read().process_bytes is None
    assert "fallen off the bus" in meter.method


def test_a_gpu_that_nvml_does_not_know_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    FakeNvml(monkeypatch, [])
    handle, reason = Nvml().find(GPU)
    assert handle is None
    assert "not found" in reason


def test_the_driver_tells_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(monkeypatch)
    assert Nvml().driver() == "580.1"
    FakeNvml(monkeypatch, init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    assert Nvml().driver() == ""
