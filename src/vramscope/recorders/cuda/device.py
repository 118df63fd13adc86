"""The device recorder: what a GPU is used for beyond torch's allocator, from NVML, the driver's own library."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml
import torch

Answer = TypeVar("Answer")
FROM_NVML = "NVML's own figure for this process"
FROM_GROWTH = (
    "the growth of the device's used memory since this process began to use it: NVML lists no such process here, as in "
    "a container with process numbers of its own or without process accounting; other processes' changes count too"
)
NOT_TOLD = (
    "not known: NVML lists no such process here, as in a container with process numbers of its own or without process "
    "accounting, and this process used the GPU already when recording began"
)
DIVIDED = "this GPU is divided (MIG), and NVML does not tell which part of it this process has"


@dataclass(frozen=True)
class DeviceUse:
    """A device's memory at one moment, in bytes; None stands for "not told".

    ``driver_bytes`` is what the driver keeps for itself; used, free and driver's bytes add up to the total.
    """

    used_bytes: int
    free_bytes: int
    driver_bytes: int
    total_bytes: int
    process_bytes: int | None


class Nvml:
    """NVML, opened; `problem` says in words why it is not, and then nothing may be asked of it."""

    def __init__(self) -> None:
        """Open the library; safe to do many times, as NVML counts."""
        self.problem = ""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self.problem = _in_words(error)

    def driver(self) -> str:
        """The driver's version, empty where it is not told."""
        return "" if self.problem else _asked(pynvml.nvmlSystemGetDriverVersion) or ""

    def find(self, device: torch.device) -> tuple[Any, str]:
        """NVML's handle of the GPU that torch calls ``device``, or None and the reason.

        Torch numbers the GPUs that CUDA_VISIBLE_DEVICES leaves, in the order it gives; NVML numbers all of them by
        their place on the bus. So a GPU is looked for by its unique number, and then by its place.
        """
        if self.problem:
            return None, self.problem
        reason = ""
        for look_up, name in _names(device):
            try:
                handle = look_up(name)
            except pynvml.NVMLError as error:
                reason = reason or _in_words(error)
                continue
            if _is_divided(handle):
                return None, DIVIDED
            return handle, ""
        return None, reason


class DeviceMeter:
    """Reads the use of one GPU; make it before the process uses the GPU, to know what was used without it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._handle, self.problem = Nvml().find(device)
        self._before = self._used_before()
        self.method = ""
        """How the last reading knew this process's share."""

    def read(self) -> DeviceUse:
        """The use of the device now.

        Raises:
            RuntimeError: neither NVML nor CUDA tells.
        """
        if self._handle is not None:
            try:
                return self._ask_nvml()
            except pynvml.NVMLError as error:
                self._handle, self.problem = None, _in_words(error)
        free, total = torch.cuda.mem_get_info(self._device)
        self.method = f"not known: {self.problem}"
        return DeviceUse(total - free, free, 0, total, None)

    def _ask_nvml(self) -> DeviceUse:
        used, free, driver, total = _memory(self._handle)
        own = _own_bytes(self._handle)
        if own is not None and own >= torch.cuda.memory_reserved(self._device):
            self.method = FROM_NVML
        else:  # not listed, or a process of another namespace that has our number
            own = None if self._before is None else max(used - self._before, 0)
            self.method = NOT_TOLD if own is None else FROM_GROWTH
        return DeviceUse(used, free, driver, total, own)

    def _has_context(self) -> bool:
        """Whether this process uses the GPU already; torch's annotations of CPU builds lack the question."""
        asks: Any = torch._C
        return bool(asks._cuda_hasPrimaryContext(self._device.index))

    def _used_before(self) -> int | None:
        """What was used before this process had a context on the GPU, None if it has one already."""
        if self._handle is None or self._has_context():
            return None
        memory = _asked(lambda: _memory(self._handle))
        return None if memory is None else memory[0]


def _names(device: torch.device) -> Iterator[tuple[Callable[[str], Any], str]]:
    """How NVML can be asked for a GPU; a part of a divided one has a unique number of its own."""
    facts: Any = torch.cuda.get_device_properties(device)  # its annotation lacks the place on the bus
    for kind in ("GPU", "MIG"):
        yield pynvml.nvmlDeviceGetHandleByUUID, f"{kind}-{facts.uuid}"
    place = f"{facts.pci_domain_id:08x}:{facts.pci_bus_id:02x}:{facts.pci_device_id:02x}.0"
    yield pynvml.nvmlDeviceGetHandleByPciBusId, place


def _is_divided(handle: Any) -> bool:
    """Whether a handle is of a whole GPU that is in use in parts only."""
    if _asked(lambda: pynvml.nvmlDeviceIsMigDeviceHandle(handle).value):
        return False
    mode = _asked(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _memory(handle: Any) -> tuple[int, int, int, int]:
    """Used, free, the driver's own, and total bytes; drivers before 510 count their own as used."""
    try:
        facts = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        return int(facts.used), int(facts.free), int(facts.reserved), int(facts.total)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        facts = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return int(facts.used), int(facts.free), 0, int(facts.total)


def _own_bytes(handle: Any) -> int | None:
    """This process's bytes on the device; it may stand in either list, or in both with the same figure."""
    lists = (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses)
    rows = [row for ask in lists for row in _asked(lambda ask=ask: ask(handle)) or ()]  # type: ignore[misc]
    found = [int(row.usedGpuMemory) for row in rows if row.pid == os.getpid() and row.usedGpuMemory is not None]
    return max(found, default=None)


def _asked(question: Callable[[], Answer]) -> Answer | None:
    """An answer of NVML's, None where it has none, as where the driver is older than the question."""
    try:
        return question()
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None


def _in_words(error: pynvml.NVMLError) -> str:
    """Why NVML refuses, and what would help."""
    advice = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the driver is not installed, or its libraries not in this container",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the driver is not running",
        pynvml.NVML_ERROR_NO_PERMISSION: "this user may not ask it",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver and library differ in version: restart the machine",
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the driver is too old for this question",
        pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU has fallen off the bus",
    }.get(error.value, "")
    return f"NVML: {str(error).lower()}" + (f" ({advice})" if advice else "")
