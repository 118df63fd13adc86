"""What a machine is made of, as far as measuring memory is concerned: facts only, found by `recorders.machine`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuFacts:
    """One GPU that torch sees; ``device`` is torch's name for it, which may number GPUs otherwise than the driver does.

    ``nvml`` is empty where the driver's library knows this GPU, else why it does not.
    """

    device: str
    name: str
    uuid: str
    memory_bytes: int
    capability: str
    nvml: str = ""


@dataclass(frozen=True)
class AllocatorFacts:
    """The CUDA allocator in force: its backend, the settings as given, and what replaces or disables caching."""

    backend: str = ""
    settings: str = ""
    pluggable: bool = False
    caching_disabled: bool = False

    @property
    def limit(self) -> str:
        """What cannot be seen of GPU memory under this allocator, in one sentence; empty for the default one.

        Source: c10/cuda/CUDAMallocAsyncAllocator.cpp calls no profiler and refuses ``recordHistory``, nor does
        torch/csrc/cuda/CUDAPluggableAllocator.cpp; without caching, tensors bypass c10/cuda/CUDACachingAllocator.cpp.
        """
        if self.caching_disabled:
            return (
                "PYTORCH_NO_CUDA_MEMORY_CACHING is set, so tensors go straight to cudaMalloc, past the allocator that "
                "reports: unset it"
            )
        if self.pluggable:
            return "a pluggable allocator is in use, which reports nothing to torch: use the native one"
        if self.backend not in ("", "native"):
            return (
                f"the allocator is {self.backend}, which reports no events and keeps no history: set "
                "PYTORCH_ALLOC_CONF=backend:native"
            )
        return ""


@dataclass(frozen=True)
class MachineFacts:
    """A machine and its software; a problem is a reason in words, empty where there is none.

    ``accelerators`` names other kinds of device that this torch can use here, such as ``mps``.
    """

    vramscope: str
    python: str
    platform: str
    processor: str
    memory_bytes: int
    torch: str
    torch_problem: str
    cuda_build: str
    rocm_build: str
    cuda_problem: str
    accelerators: tuple[str, ...]
    visible_devices: str
    gpus: tuple[GpuFacts, ...]
    allocator: AllocatorFacts
    driver: str
    nvml_problem: str
    rss_peak_problem: str
