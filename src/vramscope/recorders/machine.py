"""What this machine is, asked of torch, the driver and the system; nothing is measured and no GPU is taken."""

import os
import platform
from typing import Any

import psutil

from vramscope import __version__
from vramscope.recording.machine import AllocatorFacts, GpuFacts, MachineFacts

_CLEAR_REFS = "/proc/self/clear_refs"


def machine_facts() -> MachineFacts:
    """The facts of this machine, also where torch cannot be loaded."""
    torch, problem = _load_torch()
    facts = {**_host_facts(), "torch_problem": problem}
    return MachineFacts(**facts, **(_torch_facts(torch) if torch is not None else _no_torch()))


def _load_torch() -> tuple[Any, str]:
    """Torch, or None and why it cannot be loaded: a library of CUDA's that is missing shows here."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return torch, ""


def _host_facts() -> dict[str, Any]:
    return {
        "vramscope": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "rss_peak_problem": "" if os.access(_CLEAR_REFS, os.W_OK) else f"{_CLEAR_REFS} cannot be written here",
    }


def _no_torch() -> dict[str, Any]:
    nothing = dict.fromkeys(("torch", "cuda_build", "rocm_build", "driver", "processor"), "")
    missing = "torch cannot be loaded"
    return {
        **nothing,
        "cuda_problem": missing,
        "nvml_problem": missing,
        "accelerators": (),
        "gpus": (),
        "allocator": AllocatorFacts(),
    }


def _torch_facts(torch: Any) -> dict[str, Any]:
    from vramscope.recorders.cuda.device import Nvml
    from vramscope.recorders.devices import allocator_facts, cuda_problem
    from vramscope.recorders.environment import describe_device

    problem, nvml = cuda_problem(), Nvml()
    others = {"mps": torch.backends.mps.is_available(), "xpu": torch.xpu.is_available()}
    return {
        "torch": torch.__version__,
        "processor": describe_device(torch.device("cpu")),
        "cuda_build": torch.version.cuda or "",
        "rocm_build": torch.version.hip or "",
        "cuda_problem": problem,
        "accelerators": tuple(name for name, available in others.items() if available),
        "gpus": () if problem else tuple(_gpu(torch, index) for index in range(torch.cuda.device_count())),
        "allocator": AllocatorFacts() if problem else allocator_facts(),
        "driver": nvml.driver(),
        "nvml_problem": nvml.problem,
    }


def _gpu(torch: Any, index: int) -> GpuFacts:
    from vramscope.recorders.cuda.device import Nvml

    device = torch.device("cuda", index)
    facts = torch.cuda.get_device_properties(device)
    capability = f"{facts.major}.{facts.minor}"
    _, problem = Nvml().find(device)
    return GpuFacts(str(device), facts.name, str(facts.uuid), int(facts.total_memory), capability, problem)
