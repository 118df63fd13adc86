"""The process on the host, and devices beside the main one."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.host import HostSummary
from vramscope.views.terminal.page import Page, add_figures, ruled_table
from vramscope.views.text import Scale

_MEASURED = {"rss": "the peak", "python_heap": "the Python heap"}


def host(page: Page) -> Group | None:
    """What the process's resident memory grew by, and of what; None where it was not measured."""
    found = {name: summary.host for name, summary in page.passes.items() if summary.host is not None}
    if not found:
        return None
    table = page.side_by_side(found, lambda names: _host_table(page, {name: found[name] for name in names}))
    return page.section("Memory of the process", table, *_remarks(page, found))


def _host_table(page: Page, found: Mapping[str, HostSummary]) -> Table:
    table = ruled_table(page, "resident (RSS)")
    add_figures(table, *map(page.header, found))
    hosts = found.values()
    largest = max(item.rss_peak_bytes for item in hosts)
    scale = page.scale if page.verbose else Scale.fitting(largest)  # a process is larger than a small model
    parts = (
        ("before the model", "rss_before_bytes"),
        ("+ tensors", "tensor_bytes_at_peak"),
        ("+ Python heap", "python_heap_bytes_at_peak"),
        ("+ native remainder", "native_remainder_bytes"),
    )
    for words, part in parts:
        table.add_row(words, *(page.size(getattr(item, part), scale) for item in hosts))
    table.add_section()
    table.add_row("= peak", *(page.size(item.rss_peak_bytes, scale) for item in hosts), style="bold")
    return table


def _remarks(page: Page, found: Mapping[str, HostSummary]) -> list[Text]:
    lines = []
    negative = [name for name, item in found.items() if item.native_remainder_bytes < 0]
    if negative:
        words = f"{' and '.join(negative)}: the remainder is negative because tensors never touched take no RSS"
        lines.append(page.name(words, "dim"))
    if page.verbose:
        methods = {method for item in found.values() for method in item.methods.items()}
        lines += [
            page.remark(f"how {_MEASURED.get(kind, kind)} was measured: {method}", "dim")
            for kind, method in sorted(methods, reverse=True)
        ]
    return lines


def devices(page: Page) -> Group | None:
    """Every device's own peak where there are several; they are at different moments and never added up."""
    names = dict.fromkeys(device.device for summary in page.passes.values() for device in summary.devices)
    if len(names) < 2:
        return None
    table = page.side_by_side(page.passes, lambda passes: _device_table(page, list(names), passes))
    return page.section("Devices", table, remark="each at its own peak, not to be added up")


def _device_table(page: Page, devices: Sequence[str], passes: Sequence[str]) -> Table:
    table = ruled_table(page, "device")
    add_figures(table, *map(page.header, passes))
    for name in devices:
        peaks = [{d.device: d.peak.bytes for d in page.passes[key].devices}.get(name) for key in passes]
        table.add_row(page.name(name), *(Text("") if peak is None else page.size(peak) for peak in peaks))
    return table
