"""A GPU's memory from tensors to what nvidia-smi shows, and how the allocator's cache lay."""

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.categories import CATEGORIES
from vramscope.ledger.reconciliation import Reconciliation
from vramscope.ledger.summary import DeviceSummary
from vramscope.views.autopsy import origin_text
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.text import Scale, category_label

_WARNING = (
    "WARNING: this does not add up: the driver's figures and the allocator's were read one after the other, and "
    "something changed between them"
)


def gpus(page: Page) -> Group | None:
    """A table for every GPU that was read; None without one."""
    names = dict.fromkeys(d.device for summary in page.passes.values() for d in summary.devices if d.reconciliation)
    return Group(*(_gpu(page, name) for name in names)) if names else None


def _gpu(page: Page, name: str) -> Group:
    found: dict[str, DeviceSummary] = {
        key: device
        for key, summary in page.passes.items()
        for device in summary.devices
        if device.device == name and device.reconciliation
    }
    sums = {key: device.reconciliation for key, device in found.items() if device.reconciliation is not None}
    table = page.side_by_side(sums, lambda keys: _sum_table(page, {key: sums[key] for key in keys}))
    remarks = dict.fromkeys(item.method for item in sums.values() if item.method)
    lines = [page.remark(f"this process's share: {method}", "dim") for method in remarks]
    lines += [page.remark(_WARNING, "bold yellow")] * (not all(item.adds_up() for item in sums.values()))
    lines += [line for key, device in found.items() if (line := _fragmentation(page, key, device)) is not None]
    return page.section(f"Memory of {name}", table, *lines, *_largest(page, found))


def _sum_table(page: Page, sums: Mapping[str, Reconciliation]) -> Table:
    table = ruled_table(page, "at the end of")
    add_figures(table, *(page.name(f"{key}: {item.phase or 'the step'}", "dim") for key, item in sums.items()))
    _fill(page, table, sums)
    return table


def _largest(page: Page, found: Mapping[str, DeviceSummary]) -> list[Text]:
    """The largest blocks of the main pass, with the lines that led to them."""
    device = found.get(page.main_name)
    if device is None or not device.largest:
        return []
    lines = [page.words(f"Largest blocks at the {page.main_name} peak", "bold cyan")]
    for held in device.largest[: page.top]:
        lines.append(page.remark(f"{page.prose_scale.text(held.facts.size_bytes):>12}  {origin_text(held)}"))
    return lines


def _fill(page: Page, table: Table, sums: Mapping[str, Reconciliation]) -> None:
    scale = page.scale if page.verbose else Scale.fitting(max(item.total_bytes for item in sums.values()))
    if not page.verbose and scale.power > 2:
        scale = Scale(2)  # a context of some hundred MiB must not become 0.4 GiB

    def add(words: str, sizes: "list[int | None]", style: str = "") -> None:
        shown = [Text("") if size is None else page.size(size, scale) for size in sizes]
        table.add_row(page.words(words), *shown, style=style)

    items = list(sums.values())
    for category in CATEGORIES:
        requested = [item.requested_by_category[category] for item in items]
        if any(requested) or page.verbose or category == CATEGORIES[-1]:
            add(category_label(category), [*requested])
    add("+ rounding", [item.slack_bytes for item in items])
    table.add_section()
    add("= allocated", [item.allocated_bytes for item in items], "bold")
    add("+ freed, waiting for a stream", [item.pending_bytes for item in items])
    add("+ cached, free", [item.cached_bytes for item in items])
    table.add_section()
    add("= reserved", [item.reserved_bytes for item in items], "bold")
    if any(item.process_bytes is not None for item in items):
        add("+ CUDA context, kernels, libraries", [item.outside_bytes for item in items])
        table.add_section()
        add("= this process in NVML", [item.process_bytes for item in items], "bold")
        add("+ other processes", [item.others_bytes for item in items])
    if any(item.process_bytes is None for item in items):
        beyond = [item.beyond_bytes if item.process_bytes is None else None for item in items]
        add("+ context, libraries, other processes", beyond)
    table.add_section()
    add("= used on the device", [item.used_bytes for item in items], "bold")
    add("+ kept by the driver", [item.driver_bytes for item in items])
    add("+ free", [item.free_bytes for item in items])
    table.add_section()
    add("= device", [item.total_bytes for item in items], "bold")


def _fragmentation(page: Page, name: str, device: DeviceSummary) -> Text | None:
    cache = device.fragments
    if cache is None:
        return None
    scale = page.prose_scale
    words = (
        f"{name}: at the peak {scale.text(cache.stuck_bytes)} lay free beside blocks in use and "
        f"{scale.text(cache.releasable_bytes)} in whole segments ({cache.segments} segments, largest free block "
        f"{scale.text(cache.largest_free_bytes)})"
    )
    return page.sentence(words, "dim")
