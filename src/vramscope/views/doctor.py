"""What a machine can measure, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.ledger.capabilities import Capability, Extent
from vramscope.names import visible
from vramscope.recording.machine import GpuFacts, MachineFacts
from vramscope.units import format_size
from vramscope.views.json import SCHEMA
from vramscope.views.layout import Trimmed

_STYLES = {Extent.YES: "green", Extent.PARTLY: "yellow", Extent.NO: "dim"}


def doctor_document(machine: MachineFacts, found: Sequence[Capability]) -> dict[str, Any]:
    """The same as JSON types."""
    return {
        "schema": SCHEMA,
        "tool": "doctor",
        "machine": asdict(machine),
        "capabilities": [asdict(row) for row in found],
    }


def print_doctor(machine: MachineFacts, found: Sequence[Capability], console: Console) -> None:
    """Print the machine, then what can be measured on it."""
    console.print(Trimmed(Group(_facts(machine, console), Text(""), _rows(found, console))), highlight=False)


def _facts(machine: MachineFacts, console: Console) -> RenderableType:
    table = _table()
    for name, value in _lines(machine):
        table.add_row(name, Text(visible(value, console.encoding, longest=None)))
    return table


def _lines(machine: MachineFacts) -> list[tuple[str, str]]:
    lines = [
        ("vramscope", f"{machine.vramscope}, Python {machine.python}, {machine.platform}"),
        ("torch", _torch(machine)),
        ("CPU", f"{machine.processor or 'unknown'}, {format_size(machine.memory_bytes)}"),
        *((gpu.device, _gpu(gpu)) for gpu in machine.gpus),
    ]
    if not machine.gpus:
        lines.append(("GPU", f"none: {machine.cuda_problem}"))
    if machine.visible_devices:
        lines.append(("visible", f"CUDA_VISIBLE_DEVICES={machine.visible_devices}"))
    lines.append(("driver", machine.driver or "unknown"))
    lines.append(("NVML", machine.nvml_problem.removeprefix("NVML: ") or "answers"))
    if machine.gpus:
        lines.append(("allocator", _allocator(machine)))
    return lines


def _torch(machine: MachineFacts) -> str:
    if machine.torch_problem:
        return f"cannot be loaded: {machine.torch_problem}"
    kinds = (("CUDA", machine.cuda_build), ("ROCm", machine.rocm_build))
    builds = [f"{kind} {version}" for kind, version in kinds if version]
    return f"{machine.torch}, {' and '.join(builds) or 'CPU'} build"


def _gpu(gpu: GpuFacts) -> str:
    words = f"{gpu.name}, {format_size(gpu.memory_bytes)}, compute capability {gpu.capability}, {gpu.uuid}"
    return f"{words}; {gpu.nvml}" if gpu.nvml else words


def _allocator(machine: MachineFacts) -> str:
    settings = machine.allocator.settings
    return f"{machine.allocator.backend}, {f'set to {settings}' if settings else 'default settings'}"


def _rows(found: Sequence[Capability], console: Console) -> RenderableType:
    table = _table()
    table.add_column(overflow="fold")
    for row in found:
        detail = Text(visible(row.detail, console.encoding, longest=None))
        table.add_row(row.name, Text(row.extent.value, style=_STYLES[row.extent]), detail)
    return table


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table
