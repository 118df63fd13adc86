"""Comparisons written by hand, and what the terminal view makes of them."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.host import HostSummary
from vramscope.ledger.sites import Site
from vramscope.ledger.summary import (
    Activations,
    AllocatorCheck,
    DeviceSummary,
    Level,
    ModuleRow,
    PassSummary,
    Peak,
)
from vramscope.views.terminal import print_comparison

MIB = 1024**2
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"([+-]?[\d,]+(?:\.\d+)?) (B|[KMGT]iB)\b")


def composition(**sizes: int) -> dict[Category, int]:
    """All categories, those not named with 0."""
    return {category: sizes.get(category.value, 0) for category in CATEGORIES}


def summary(sizes: Mapping[Category, int], **more: Any) -> PassSummary:
    """A pass with this composition at its peak; ``more`` replaces fields, ``disagreement`` the allocator's."""
    total = sum(sizes.values())
    requested = more.pop("requested", sizes)
    peak = Peak(
        total, more.pop("phase", "forward"), more.pop("module", ""), more.pop("operator", None), sizes, requested
    )
    check = AllocatorCheck(more.pop("allocator_bytes", total), 100, more.pop("disagreement", 0))
    retained = sum(row.retained_bytes for row in more.get("modules", ()))
    fields: dict[str, Any] = {
        "peak": peak,
        "allocator": check,
        "phases": {"forward": Level(total, sizes)},
        "cold": Level(total, sizes),
        "activations": Activations(retained, retained, 0, 0, 0, 0, 0),
        "gradients_peak_bytes": sizes[Category.GRADIENTS],
        "optimizer_state": {},
        "modules": (),
        "sites": (),
        "host": None,
        "devices": (DeviceSummary("cpu", "A processor", peak, check, check.peak_bytes, None, None),),
        "steady_steps": 2,
        "notes": (),
        "complete": True,
    }
    return PassSummary(**{**fields, **more})


def comparison(inference: PassSummary | None, training: PassSummary | None, **more: Any) -> Comparison:
    """The passes that are there, without ledgers."""
    passes = {"inference": inference, "training": training}
    workload = {"name": "net", "device": "cpu", "dtype": "float32", "batch": 8, "optimizer": "AdamW"}
    return Comparison(
        workload={**workload, "parameter_count": 1000, **more.pop("workload", {})},
        environment={"torch": "2.13.0"},
        passes={name: found for name, found in passes.items() if found is not None},
        ledgers={},
        **more,
    )


def full_comparison() -> Comparison:
    """Every part of the page has something to show; 12 modules, 13 lines."""
    modules = tuple(
        [ModuleRow("", "Net", 0, 3 * MIB, 0, 0)]
        + [ModuleRow(f"layers.{n}", "Linear", (n + 1) * MIB, (n + 2) * MIB + n, 0, 0) for n in range(6)]
        + [ModuleRow(f"other{n}", "ReLU", 0, n * 1000, 0, 0) for n in range(5)]
    )
    sites = tuple(Site("/code/model.py", n + 1, "forward", (13 - n) * MIB, Category.ACTIVATIONS) for n in range(12))
    sites += (Site("(no Python frame)", 0, "", 13 * 2048, Category.OPTIMIZER_STATE),)
    host = HostSummary(
        100 * MIB, 160 * MIB, 70 * MIB, 5 * MIB, -15 * MIB, "forward", "", {"rss": "VmHWM"}, ("a remark",)
    )
    small = composition(parameters=21 * MIB, inputs=3000, activations=2 * MIB + 7)
    large = composition(
        parameters=21 * MIB,
        inputs=3000,
        activations=33 * MIB,
        gradients=21 * MIB,
        optimizer_state=42 * MIB + 8,
        workspace=5,
    )
    training = summary(
        large,
        phase="backward",
        module="layers.1",
        operator="aten::mm",
        modules=modules,
        sites=sites,
        host=host,
        optimizer_state={"exp_avg": 21 * MIB, "exp_avg_sq": 21 * MIB, "step": 8},
        notes=("the optimizer is fused",),
    )
    return comparison(summary(small), training)


def printed(shown: Comparison, width: int = 80, **options: Any) -> str:
    """What the terminal view prints into a pipe."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_comparison(shown, console, **options)
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text


@dataclass(frozen=True)
class Figure:
    """A printed size: its bytes as far as they are known, and where it ends on its line."""

    bytes: float
    error_bytes: float
    end: int


def figures_in(line: str) -> list[Figure]:
    """The sizes on a line; one with a decimal is known to half of its last place."""
    found = []
    for match in _SIZE.finditer(line):
        unit = _UNITS[match[2]]
        error = unit * 0.05 if "." in match[1] else 0.0
        found.append(Figure(float(match[1].replace(",", "")) * unit, error, match.end()))
    return found


def table_below(text: str, title: str) -> tuple[list[str], str]:
    """A table's lines between its header and its total, and the total."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(title))
    rules = [n for n, line in enumerate(lines) if n > start and line.strip() and set(line.strip()) <= {"─", " ", "-"}]
    return lines[rules[0] + 1 : rules[1]], lines[rules[1] + 1]


def assert_columns_sum(rows: list[str], total: str, columns: int) -> None:
    """The figures of every column that the total has sum to it, as exactly as they are printed."""
    totals = figures_in(total)
    assert len(totals) == columns, total
    for wanted in totals:
        parts = [part for row in rows for part in figures_in(row) if part.end == wanted.end]
        assert parts, f"nothing stands above the total in {total!r}"
        error = sum(part.error_bytes for part in parts) + wanted.error_bytes
        assert abs(sum(part.bytes for part in parts) - wanted.bytes) <= error + 1e-6
