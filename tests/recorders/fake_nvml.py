"""NVML without a driver: stands in for the functions of ``pynvml`` that ask the library, and for nothing else."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

GIB = 1024**3
UUID = "5a5a5a5a-0000-1111-2222-333344445555"


@dataclass
class FakeGpu:
    """A GPU as NVML sees it; ``processes`` are (pid, bytes). Drivers before 510 know no second form of questions."""

    names: tuple[str, ...] = (f"GPU-{UUID}",)
    used: int = 6 * GIB
    free: int = 73 * GIB
    reserved: int = 1 * GIB
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    divided: bool = False
    has_v2: bool = True


class FakeNvml:
    """Installs itself in ``pynvml``; errors are pynvml's own."""

    def __init__(self, patch: pytest.MonkeyPatch, gpus: Sequence[FakeGpu] = (), init_error: int = 0) -> None:
        self._gpus, self._init_error = gpus, init_error
        self.refuses = 0
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": self._init,
            "nvmlSystemGetDriverVersion": lambda: "580.1",
            "nvmlDeviceGetHandleByUUID": self._find,
            "nvmlDeviceGetHandleByPciBusId": self._find,
            "nvmlDeviceIsMigDeviceHandle": lambda gpu: SimpleNamespace(value=int(gpu.names[0].startswith("MIG"))),
            "nvmlDeviceGetMigMode": lambda gpu: [int(gpu.divided), int(gpu.divided)],
            "nvmlDeviceGetMemoryInfo": self._memory,
            "nvmlDeviceGetComputeRunningProcesses": lambda gpu: self._processes(gpu),
            "nvmlDeviceGetGraphicsRunningProcesses": lambda gpu: [],
        }
        for name, answer in answers.items():
            patch.setattr(pynvml, name, answer)

    def _init(self) -> None:
        if self._init_error:
            raise pynvml.NVMLError(self._init_error)

    def _find(self, name: str) -> FakeGpu:
        for gpu in self._gpus:
            if name in gpu.names:
                return gpu
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def _memory(self, gpu: FakeGpu, version: int | None = None) -> SimpleNamespace:
        if self.refuses:
            raise pynvml.NVMLError(self.refuses)
        total = gpu.used + gpu.free + gpu.reserved
        if version is None:  # the first form counts what the driver keeps as used
            return SimpleNamespace(used=gpu.used + gpu.reserved, free=gpu.free, total=total)
        if not gpu.has_v2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return SimpleNamespace(used=gpu.used, free=gpu.free, reserved=gpu.reserved, total=total)

    def _processes(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        if not gpu.has_v2:
            raise pynvml.NVMLLibraryMismatchError
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in gpu.processes]


class FakeCuda:
    """The few questions that the device recorder asks of ``torch.cuda``, for one GPU."""

    def __init__(self, patch: pytest.MonkeyPatch, reserved: int = 2 * GIB, has_context: bool = False) -> None:
        self.reserved, self.has_context = reserved, has_context
        facts = SimpleNamespace(uuid=UUID, pci_domain_id=0, pci_bus_id=0x17, pci_device_id=0)
        patch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        patch.setattr(torch.cuda, "memory_reserved", lambda device: self.reserved)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * GIB, 80 * GIB))
        patch.setattr(torch._C, "_cuda_hasPrimaryContext", lambda index: self.has_context, raising=False)


OWN_PID = os.getpid()
