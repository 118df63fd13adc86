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
