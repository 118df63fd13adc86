"""What can be measured on a machine, and why not the rest: a pure function of the machine's facts."""

from dataclasses import dataclass
from enum import StrEnum

from vramscope.recording.machine import MachineFacts

_NO_GPU = "no GPU can be used: see above"


class Extent(StrEnum):
    """How much of a measurement is to be had."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Capability:
    """One kind of measurement: what it gives here, or why it does not."""

    name: str
    extent: Extent
    detail: str


def capabilities(machine: MachineFacts) -> tuple[Capability, ...]:
    """Every kind of measurement, in the order in which a report uses them."""
    found = {
        "CPU tensors": (Extent.YES, "every allocation, to the byte"),
        "source lines": (Extent.YES, "in a run of their own"),
        "process memory": _host(machine),
        "GPU tensors": _gpu_events(machine),
        "GPU segments and requests": _gpu_history(machine),
        "GPU beyond torch": _gpu_device(machine),
        "predictions": (Extent.YES, "estimate and fit need no GPU"),
    }
    if machine.torch_problem:
        found = dict.fromkeys(found, (Extent.NO, f"torch cannot be loaded ({machine.torch_problem})"))
    rows = (Capability(name, extent, detail) for name, (extent, detail) in found.items())
    snapshots = Capability("snapshot files", Extent.YES, "read and replayed without torch or a GPU")
    return (*rows, snapshots, *_refused(machine))


def _host(machine: MachineFacts) -> tuple[Extent, str]:
    if machine.rss_peak_problem:
        return (Extent.PARTLY, f"sampled at boundaries only: {machine.rss_peak_problem}")
    return (Extent.YES, "peak RSS between any two boundaries, and the Python heap")


def _gpu_events(machine: MachineFacts) -> tuple[Extent, str]:
    why = machine.cuda_problem or machine.allocator.limit
    return (Extent.NO, why) if why else (Extent.YES, "every allocation, to the byte")


def _gpu_history(machine: MachineFacts) -> tuple[Extent, str]:
    why = _NO_GPU if machine.cuda_problem else machine.allocator.limit
    detail = "reserved memory, fragmentation, rounding, library workspaces, Python stacks"
    return (Extent.NO, why) if why else (Extent.YES, detail)


def _gpu_device(machine: MachineFacts) -> tuple[Extent, str]:
    if machine.cuda_problem:
        return (Extent.NO, _NO_GPU)
    missing = machine.nvml_problem or next((gpu.nvml for gpu in machine.gpus if gpu.nvml), "")
    if missing:
        return (Extent.PARTLY, f"used and free memory of the device, not this process's share: {missing}")
    return (Extent.YES, "CUDA context, libraries and other processes, through NVML")


def _refused(machine: MachineFacts) -> tuple[Capability, ...]:
    """Kinds of device that nothing has been verified on, whether they are here or not."""
    rows = (
        ("AMD (ROCm)", bool(machine.rocm_build)),
        ("Apple (MPS)", "mps" in machine.accelerators),
        ("Intel (XPU)", "xpu" in machine.accelerators),
    )
    here = {True: "this torch can use one, ", False: ""}
    return tuple(
        Capability(name, Extent.NO, f"{here[found]}refused: nothing has been verified there") for name, found in rows
    )
