"""Which devices can be recorded; CUDA's refusals are raised where torch would raise them."""

import pytest
import torch

from vramscope.errors import UnsupportedError
from vramscope.recorders.devices import cuda_problem, recorded_device, recorded_devices


class CudaBuild:
    """Makes this torch look like a CUDA build whose driver answers in a given way."""

    def __init__(self, patch: pytest.MonkeyPatch, refusal: str = "", count: int = 0) -> None:
        def init() -> None:
            if refusal:
                raise RuntimeError(refusal)

        patch.setattr(torch.version, "cuda", "13.0")
        patch.setattr(torch.version, "hip", None)
        patch.setattr(torch.cuda, "init", init)
        patch.setattr(torch.cuda, "device_count", lambda: count)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")


def test_a_cpu_build_says_so() -> None:
    if torch.version.cuda or torch.version.hip:
        pytest.skip("this torch is no CPU build")
    assert "is a CPU build" in cuda_problem()


def test_a_rocm_build_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert "is a ROCm build" in cuda_problem()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("Found no NVIDIA driver on your system. Please check", "there is no NVIDIA driver on this machine"),
        (
            "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver",
            "it knows CUDA 12.4, this torch is built for 13.0",
        ),
        ("CUDA driver initialization failed, you might not have a CUDA gpu.", "CUDA does not start: CUDA driver init"),
    ],
)
def test_the_drivers_refusal_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, refusal: str, said: str) -> None:
    CudaBuild(monkeypatch, refusal)
    with pytest.raises(UnsupportedError, match=r"^--device cuda: ") as raised:
        recorded_device("cuda")
    assert said in str(raised.value)


def test_hidden_gpus_are_told_from_missing_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    CudaBuild(monkeypatch, "No CUDA GPUs are available")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in cuda_problem()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "the driver finds no GPU" in cuda_problem()


def test_an_index_that_is_not_there_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    CudaBuild(monkeypatch, count=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UnsupportedError, match="there are 2 GPUs, cuda:0 to cuda:1"):
        recorded_device("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(UnsupportedError, match="'3,5' may hide others"):
        recorded_device("cuda:2")


def test_an_index_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    CudaBuild(monkeypatch, count=2)
    assert recorded_device("cuda:1") == torch.device("cuda", 1)
    assert recorded_device("cuda") == torch.device("cuda", 0)


def test_an_allocator_that_reports_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    CudaBuild(monkeypatch, count=1)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    with pytest.raises(UnsupportedError, match="cudaMallocAsync, which reports no events"):
        recorded_device("cuda")


def test_other_gpus_are_recorded_beside_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    CudaBuild(monkeypatch, count=3)
    names = [str(device) for device in recorded_devices(torch.device("cuda", 1))]
    assert names == ["cuda:1", "cpu", "cuda:0", "cuda:2"]
    assert recorded_devices(torch.device("cpu")) == [torch.device("cpu")]


@pytest.mark.parametrize(("name", "why"), [("mps", "Apple"), ("xpu", "Intel"), ("meta", "reports no events")])
def test_other_kinds_of_device_are_refused(name: str, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        recorded_device(name)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert recorded_device("auto") == torch.device("cpu")
