"""The devices that can be recorded, by the names that their allocators' events carry."""

import os

import torch

from vramscope.errors import UnsupportedError
from vramscope.recording.machine import AllocatorFacts

VISIBLE = "CUDA_VISIBLE_DEVICES"
_NO_CACHING = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_BUILT_IN_BACKENDS = ("native", "cudaMallocAsync")
_UNVERIFIED = {
    "mps": "Apple GPUs (MPS) have not been verified",
    "xpu": "Intel GPUs (XPU) have not been verified",
}


def recorded_device(name: str | torch.device, option: str = "--device ") -> torch.device:
    """The device that ``name`` means here: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        name: as the user gave it.
        option: what the user gave it with, for errors; the name follows.

    Raises:
        UnsupportedError: a GPU that is not there, or a device whose allocator reports no events.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and torch.version.hip is None else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnsupportedError(f"{option}{name}: no such device; give auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        return _gpu(device, option)
    why = _UNVERIFIED.get(device.type, "its allocator reports no events")
    raise UnsupportedError(f"{option}{name}: {why}, so nothing can be recorded there; use cpu or cuda")


def _gpu(device: torch.device, option: str) -> torch.device:
    problem = gpu_problem()
    if problem:
        raise UnsupportedError(f"{option}{device}: {problem}; or use {option}cpu")
    index = torch.cuda.current_device() if device.index is None else device.index
    count = torch.cuda.device_count()
    if index >= count:
        there = "only cuda:0 is there" if count == 1 else f"there are {count} GPUs, cuda:0 to cuda:{count - 1}"
        hidden = f" ({VISIBLE}={os.environ[VISIBLE]!r} may hide others)" if VISIBLE in os.environ else ""
        raise UnsupportedError(f"{option}{device}: {there}{hidden}; choose one of them")
    return torch.device("cuda", index)


def gpu_problem() -> str:
    """Why nothing can be recorded on a GPU in this process; empty where it can."""
    return cuda_problem() or allocator_facts().limit


def cuda_problem() -> str:
    """Why no CUDA GPU can be used in this process, and what to do about it; empty where one can.

    The driver's own refusals are those of ``c10/cuda/CUDAFunctions.cpp``; a CUDA context is not made.
    """
    if torch.version.hip is not None:
        return (
            f"this torch ({torch.__version__}) is a ROCm build, where nothing has been verified: run on an NVIDIA GPU"
        )
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is a CPU build: install a build with CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _explained(" ".join(str(error).split()))
    return "" if torch.cuda.device_count() else _explained("No CUDA GPUs are available")


def _explained(message: str) -> str:
    """What torch said when it could not start CUDA, in fewer words."""
    if "no NVIDIA driver" in message:
        return "there is no NVIDIA driver on this machine, or none in this container: install it, or pass the GPU in"
    if "too old" in message:
        found = message.partition("found version ")[2].partition(")")[0]
        return (
            f"the NVIDIA driver is too old (it knows CUDA {_release(found)}, this torch is built for "
            f"{torch.version.cuda}): update the driver, or install a torch for it"
        )
    if "No CUDA GPUs" in message:
        return _hidden()
    return f"CUDA does not start: {message[:200]}"


def _hidden() -> str:
    if VISIBLE in os.environ:
        return f"no GPU is visible, as {VISIBLE} is {os.environ[VISIBLE]!r}: unset it, or name a GPU that is there"
    return "the driver finds no GPU: check `nvidia-smi`, and that this container was given one"


def _release(version: str) -> str:
    """``12040`` as ``12.4``: CUDART_VERSION is 1000 times the major plus 10 times the minor release."""
    return (
        f"{int(version) // 1000}.{int(version) % 1000 // 10}" if version.isdecimal() else version or "of some version"
    )


def allocator_facts() -> AllocatorFacts:
    """Which CUDA allocator this process uses, and how it is set."""
    backend = torch.cuda.get_allocator_backend()
    return AllocatorFacts(
        backend=backend,
        settings=next((os.environ[name] for name in _SETTINGS if os.environ.get(name)), ""),
        pluggable=backend not in _BUILT_IN_BACKENDS,
        caching_disabled=_NO_CACHING in os.environ,
    )


def recorded_devices(device: torch.device) -> list[torch.device]:
    """The devices of a recording: the main one, the CPU, and the other GPUs, as a program may use several."""
    if device.type == "cpu":
        return [device]
    return [device, torch.device("cpu"), *(gpu for gpu in all_gpus() if gpu != device)]


def all_gpus() -> list[torch.device]:
    """The CUDA GPUs that this process may use."""
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def allocated_bytes(device: torch.device) -> int:
    """The CUDA allocator's running total now, as its events carry it."""
    return int(torch.cuda.memory_stats(device).get("allocated_bytes.all.current", 0))
