"""What can be measured on machines of many kinds, from their facts alone."""

from dataclasses import replace

import pytest

from vramscope.ledger.capabilities import Extent, capabilities
from vramscope.recording.machine import AllocatorFacts, GpuFacts, MachineFacts

CPU_ONLY = MachineFacts(
    vramscope="0",
    python="3.12",
    platform="Linux",
    processor="a CPU",
    memory_bytes=8 << 30,
    torch="2.11.0+cpu",
    torch_problem="",
    cuda_build="",
    rocm_build="",
    cuda_problem="this torch is a CPU build",
    accelerators=(),
    visible_devices="",
    gpus=(),
    allocator=AllocatorFacts(),
    driver="",
    nvml_problem="NVML: not found",
    rss_peak_problem="",
)
GPU = replace(
    CPU_ONLY,
    cuda_problem="",
    nvml_problem="",
    gpus=(GpuFacts("cuda:0", "a GPU", "5a5a", 80 << 30, "9.0"),),
    allocator=AllocatorFacts(backend="native"),
)
ON_GPU = ("GPU tensors", "GPU segments and requests", "GPU beyond torch")


def extents(machine: MachineFacts) -> dict[str, Extent]:
    return {row.name: row.extent for row in capabilities(machine)}


def detail(machine: MachineFacts, name: str) -> str:
    return next(row.detail for row in capabilities(machine) if row.name == name)


def test_a_gpu_with_everything_gives_everything() -> None:
    assert {extents(GPU)[name] for name in ON_GPU} == {Extent.YES}


def test_without_a_gpu_the_reason_stands_there_and_the_rest_goes_on() -> None:
    found = extents(CPU_ONLY)
    assert {found[name] for name in ON_GPU} == {Extent.NO}
    assert detail(CPU_ONLY, "GPU tensors") == CPU_ONLY.cuda_problem
    assert {found["CPU tensors"], found["predictions"], found["snapshot files"]} == {Extent.YES}


def test_without_torch_only_files_can_be_read() -> None:
    found = extents(replace(CPU_ONLY, torch="", torch_problem="ImportError: libcudart.so"))
    assert [name for name, extent in found.items() if extent is Extent.YES] == ["snapshot files"]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (AllocatorFacts(backend="cudaMallocAsync"), "cudaMallocAsync, which reports no events"),
        (AllocatorFacts(backend="pluggable", pluggable=True), "a pluggable allocator"),
        (AllocatorFacts(backend="native", caching_disabled=True), "PYTORCH_NO_CUDA_MEMORY_CACHING is set"),
    ],
)
def test_an_allocator_that_reports_nothing_is_named(facts: AllocatorFacts, said: str) -> None:
    machine = replace(GPU, allocator=facts)
    assert extents(machine)["GPU tensors"] is Extent.NO
    assert said in detail(machine, "GPU tensors")


def test_the_native_allocator_has_no_limit_whatever_its_settings() -> None:
    assert AllocatorFacts("native", "expandable_segments:True").limit == ""


def test_without_nvml_the_device_is_known_in_part() -> None:
    missing = replace(GPU, nvml_problem="NVML: no permission")
    assert extents(missing)["GPU beyond torch"] is Extent.PARTLY
    unknown = replace(GPU, gpus=(replace(GPU.gpus[0], nvml="NVML: not found"),))
    assert "NVML: not found" in detail(unknown, "GPU beyond torch")


def test_where_the_kernel_keeps_no_peak_memory_is_sampled() -> None:
    assert extents(replace(CPU_ONLY, rss_peak_problem="clear_refs"))["process memory"] is Extent.PARTLY


def test_unverified_devices_are_listed_and_named_where_they_are_here() -> None:
    here = replace(CPU_ONLY, accelerators=("mps",), rocm_build="6.0")
    assert {extents(here)[name] for name in ("AMD (ROCm)", "Apple (MPS)", "Intel (XPU)")} == {Extent.NO}
    assert detail(here, "Apple (MPS)").startswith("this torch can use one")
    assert detail(here, "AMD (ROCm)").startswith("this torch can use one")
    assert detail(here, "Intel (XPU)").startswith("refused")
