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
    torch = machine.torch_problem
    without_torch = Capability("", Extent.NO, f"torch cannot be loaded ({torch})")
    rows = (
        ("CPU tensors", _cpu(machine)),
        ("source lines", Capability("", Extent.YES, "in a run of their own")),
        ("process memory", _host(machine)),
        ("GPU tensors", _gpu_events(machine)),
        ("GPU segments and requests", _gpu_history(machine)),
        ("GPU beyond torch", _gpu_device(machine)),
        ("predictions", Capability("", Extent.YES, "estimate and fit need no GPU")),
    )
    found = [_named(name, without_torch if torch else row) for name, row in rows]
    snapshots = Capability("snapshot files", Extent.YES, "read and replayed without torch or a GPU")
    return (*found, snapshots, *_refused(machine))


def _named(name: str, row: Capability) -> Capability:
    return Capability(name, row.extent, row.detail)


def _cpu(machine: MachineFacts) -> Capability:
    return Capability("", Extent.YES, "every allocation, to the byte")


def _host(machine: MachineFacts) -> Capability:
    if machine.rss_peak_problem:
        return Capability("", Extent.PARTLY, f"sampled at boundaries only: {machine.rss_peak_problem}")
    return Capability("", Extent.YES, "peak RSS between any two boundaries, and the Python heap")


def _gpu_events(machine: MachineFacts) -> Capability:
    why = machine.cuda_problem or machine.allocator.limit
    return Capability("", Extent.NO, why) if why else Capability("", Extent.YES, "every allocation, to the byte")


def _gpu_history(machine: MachineFacts) -> Capability:
    why = _NO_GPU if machine.cuda_problem else machine.allocator.limit
    detail = "reserved memory, fragmentation, rounding, library workspaces, Python stacks"
    return Capability("", Extent.NO, why) if why else Capability("", Extent.YES, detail)


def _gpu_device(machine: MachineFacts) -> Capability:
    if machine.cuda_problem:
        return Capability("", Extent.NO, _NO_GPU)
    missing = machine.nvml_problem or next((gpu.nvml for gpu in machine.gpus if gpu.nvml), "")
    if missing:
        return Capability("", Extent.PARTLY, f"used and free memory of the device, not this process's share: {missing}")
    return Capability("", Extent.YES, "CUDA context, libraries and other processes, through NVML")


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
