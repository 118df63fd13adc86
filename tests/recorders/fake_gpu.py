"""A GPU made of the CPU: what the CPU's allocator reports is shown to the recorder as the events of ``cuda:0``.

Stands in for the questions to ``torch.cuda`` and for the device of the profiler's nodes; the recorder, the profiler,
the hooks and the program are real.
"""

import inspect
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.recorders.fake_nvml import GIB, OWN_PID, UUID, FakeGpu, FakeNvml
from torch._C._profiler import _EventType

from vramscope.recorders import profiler
from vramscope.recorders.conversion import Tables, convert
from vramscope.recorders.window import ProfilerWindow

BLOCK = 512
RESERVED = 20 << 20
BOOKEND = "vramscope:bookend"
STATISTICS = {
    "allocated_bytes.all.current": 0,  # the program of a test frees everything before the recording ends
    "requested_bytes.all.current": 0,
    "active_bytes.all.current": 0,
    "reserved_bytes.all.current": RESERVED,
    "allocated_bytes.all.peak": 0,
}


class GpuOfCpu:
    """Patches torch; ``history`` tells how its allocator's history was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.history: list[dict[str, Any]] = []
        self.is_recording = False
        self.cleared = 0
        self._signature = inspect.signature(torch.cuda.memory._record_memory_history)
        FakeNvml(patch, [FakeGpu(processes=[(OWN_PID, 3 * GIB)])])
        facts = {"uuid": UUID, "pci_domain_id": 0, "pci_bus_id": 23, "pci_device_id": 0, "total_memory": 80 * GIB}
        patch.setattr(torch.version, "cuda", "13.0")
        for name, answer in {
            "init": lambda: None,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_allocator_backend": lambda: "native",
            "get_device_name": lambda device: "a GPU of the CPU",
            "get_device_capability": lambda device: (8, 0),
            "get_device_properties": lambda device: SimpleNamespace(**facts),
            "mem_get_info": lambda device: (70 * GIB, 80 * GIB),
            "memory_reserved": lambda device: RESERVED,
            "memory_stats": lambda device: dict(STATISTICS),
            "memory_snapshot": lambda mempool_id=None, include_traces=True: [],
            "reset_peak_memory_stats": lambda device: None,
        }.items():
            patch.setattr(torch.cuda, name, answer)
        for name, answer in {
            "_cuda_hasPrimaryContext": lambda index: True,
            "_cuda_isHistoryEnabled": lambda: self.is_recording,
            "_cuda_clearCublasWorkspaces": self._clear,
        }.items():
            patch.setattr(torch._C, name, answer, raising=False)
        # an optimizer would ask a build with CUDA for the stream of this GPU
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
        patch.setattr(torch.cuda.memory, "_record_memory_history", self._record)
        patch.setattr(torch.cuda.memory, "_snapshot", self._snapshot)
        patch.setattr(profiler, "convert", _convert)
        roots = ProfilerWindow.take_roots
        patch.setattr(ProfilerWindow, "take_roots", lambda window: as_gpu(roots(window)))

    def _record(self, *args: Any, **kwargs: Any) -> None:
        """As torch's own: what does not fit its signature is a TypeError."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        self.history.append(dict(bound.arguments))
        self.is_recording = bound.arguments["enabled"] is not None

    def _clear(self) -> None:
        self.cleared += 1

    def _snapshot(self, device: Any = None, augment_with_fx_traces: bool = False) -> dict[str, Any]:
        return {"segments": [], "device_traces": [[]], "allocator_settings": {}, "external_annotations": []}


def _convert(roots: Any, strings: Any, devices: Any, batches: Any, frames: Any) -> Tables:
    """The labels are of CPU tensors, which here are the GPU's."""
    moved = [[label._replace(device=torch.device("cuda", 0)) for label in batch] for batch in batches]
    return convert(roots, strings, devices, moved, frames)


def as_gpu(roots: Sequence[Any]) -> list[Any]:
    """Copies of the profiler's trees whose allocations, but for the recorder's own, are those of a GPU.

    An event of a GPU that lies in no scope is missing, as from torch's own trees (``materializeOpEvents`` in
    torch/csrc/autograd/profiler_kineto.cpp).
    """
    found: list[Any] = []
    copies = [_copied(root, found) for root in roots]
    sizes: dict[int, int] = {}
    total = 0
    for facts, size in sorted(found, key=lambda pair: pair[0].start_time_ns):
        own = facts.extra_fields
        if size > 0:
            sizes[own.ptr] = -(-size // BLOCK) * BLOCK
            own.alloc_size = sizes[own.ptr]
        else:
            own.alloc_size = -sizes.pop(own.ptr, 0)  # 0, a free of something older, is no event
        total += own.alloc_size
        own.total_allocated, own.total_reserved = total, RESERVED
    return [copy for copy in copies if copy.tag != _EventType.Allocation]


def _copied(root: Any, found: list[Any]) -> Any:
    copies: dict[int, Any] = {}
    for node, is_ours in _walk(root):
        copy = SimpleNamespace(
            tag=node.tag,
            name=node.name,
            start_time_ns=node.start_time_ns,
            end_time_ns=node.end_time_ns,
            start_tid=node.start_tid,
            extra_fields=node.extra_fields if node.name != "[OutOfMemory]" else None,
            children=[],
        )
        if node.tag == _EventType.Allocation and not is_ours:
            size = node.extra_fields.alloc_size
            copy.extra_fields = SimpleNamespace(ptr=node.extra_fields.ptr, device=torch.device("cuda", 0))
            found.append((copy, size))
        copies[id(node)] = copy
        if node is not root:
            copies[id(node.parent)].children.append(copy)
    return copies[id(root)]


def _walk(root: Any) -> Iterator[tuple[Any, bool]]:
    """Every node, parents first, and whether it lies in a scope of the recorder's own that allocates."""
    pending = [(root, False)]
    while pending:
        node, is_ours = pending.pop()
        yield node, is_ours
        inside = is_ours or node.name.startswith(BOOKEND)
        pending += [(child, inside) for child in reversed(node.children)]
