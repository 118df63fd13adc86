"""A snapshot's report for the terminal."""

from collections import Counter
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.allocator.moment import Moment, PartKind, Site
from vramscope.allocator.report import SettingsRun, SnapshotReport
from vramscope.allocator.snapshot.model import UNKNOWN
from vramscope.allocator.summary import DeviceSummary
from vramscope.allocator.what_if import Outcome
from vramscope.units import format_size
from vramscope.views.layout import Sentence, Trimmed, first_fitting, hanging, indented
from vramscope.views.snapshot_remarks import export_line, limit_words, remarks, settings_lines

_KIND_NAMES = {
    PartKind.BEFORE: "held before the recording",
    PartKind.FORWARD: "made in forward",
    PartKind.BACKWARD: "made in backward",
    PartKind.OPTIMIZER: "made in the optimizer step",
    PartKind.WORKSPACE: "library workspaces",
    PartKind.COMMUNICATION: "communication",
    PartKind.OTHER: "made elsewhere",
}
_MOST_SITES = 10
_LONG = 30
_WORDS = ("", "known from", "settings")


def print_snapshot(report: SnapshotReport, console: Console, verbose: bool = False) -> None:
    """Print the report; everything in it that comes from the file is printed as plain text, never as markup."""
    for part in _parts(report, console, verbose):
        console.print(Trimmed(part))


def _parts(report: SnapshotReport, console: Console, verbose: bool) -> Iterator[RenderableType]:
    """The report from top to bottom; ``verbose`` lists all sites."""
    snapshot = report.summary.snapshot
    yield from map(_paragraph, (*export_line(snapshot), *settings_lines(snapshot)))
    for device in report.summary.devices:
        if snapshot.exported_from:
            yield from (*_exported_heading(device), *_site_section(device, verbose))
        else:
            yield from (*_heading(device), *_sections(device, console, verbose))
        runs = [run for run in report.runs if run.device == device.device]
        if runs:
            yield from (_title(_runs_title(report)), _runs(runs, console))
    yield from map(_paragraph, ("", *remarks(report)))
    for mark in report.summary.marks:
        yield hanging(Text(f"! doubtful: {mark}", style="yellow"), 2)


def _paragraph(line: str, style: str = "") -> RenderableType:
    """A line that keeps its margin, and figures with their units, where it wraps."""
    words = line.lstrip(" ")
    return indented(Sentence(words, style), len(line) - len(words))


def _exported_heading(device: DeviceSummary) -> Iterator[RenderableType]:
    yield from (_paragraph(line, "bold") for line in (_peak_line(device), *_length_line(device)))


def _heading(device: DeviceSummary) -> Iterator[RenderableType]:
    reserved = device.replay.peak_reserved
    lines = [_peak_line(device), f"  at most {format_size(reserved)} reserved ({reserved:,} B)", *_length_line(device)]
    if device.out_of_memory:
        failed = "1 allocation" if device.out_of_memory == 1 else f"{device.out_of_memory:,} allocations"
        lines.append(f"  {failed} failed with out of memory in the recording")
    alike = Counter((space.library, space.bytes, space.known_from) for space in device.peak.workspaces)
    for (library, size, known_from), count in alike.items():
        spaces, each = (f"{count} {library} workspaces", " each") if count > 1 else (f"{library} workspace", "")
        lines.append(f"  {spaces} of {format_size(size)}{each}, known from {known_from}")
    yield from (_paragraph(line, "bold") for line in lines)


def _peak_line(device: DeviceSummary) -> str:
    peak_bytes = device.replay.peak_allocated
    return f"{device.name}: peak of {format_size(peak_bytes)} allocated ({peak_bytes:,} B), {_when(device)}"


def _length_line(device: DeviceSummary) -> Iterator[str]:
    """How long the trace is; nothing where nothing was recorded."""
    if device.entries:
        times = f" over {device.duration_us / 1e6:.3f} s" if device.duration_us != UNKNOWN else ", without times"
        entries = "entry" if device.entries == 1 else "entries"
        yield f"  {device.entries:,} trace {entries}{times}"


def _sections(device: DeviceSummary, console: Console, verbose: bool) -> Iterator[RenderableType]:
    """Tables, each below its title: a title within a table would wrap at the table's width."""
    yield from (_title("Reserved memory"), _layout(device))
    yield from (_title("What was allocated at the peak"), _composition(device.peak, console))
    yield from _site_section(device, verbose)


def _site_section(device: DeviceSummary, verbose: bool) -> Iterator[RenderableType]:
    yield from (_title("Largest allocation sites at the peak"), _sites(device.peak, verbose))


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="italic")


def _when(device: DeviceSummary) -> str:
    """Where in the trace the peak lies."""
    if device.peak.entry < 0:
        return "before its first entry" if device.entries else "in the end; nothing was recorded on it"
    where = f"after entry {device.peak.entry + 1:,} of {device.entries:,}"
    first = device.first_time_us
    return where if first == UNKNOWN else f"{where} ({(device.peak.time_us - first) / 1e6:.3f} s in)"


def _table(*columns: str) -> Table:
    """A table of figures, but for a first column without a name, or a last one of `_WORDS`."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        figure = column not in _WORDS
        table.add_column(column, justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    return table


def _layout(device: DeviceSummary) -> Table:
    """How the reserved bytes divide; the rows above "reserved" sum to it."""
    table = _table("", "at the peak", "in the end")
    peak, end = device.peak.layout, device.end.layout
    for name, at_peak, at_end in (
        ("requested by the program", peak.requested, end.requested),
        ("rounding slack", peak.slack, end.slack),
        ("waiting for other streams", peak.pending, end.pending),
        ("free, can be returned", peak.releasable, end.releasable),
        ("free, stuck beside blocks in use", peak.stuck, end.stuck),
        ("reserved", peak.reserved, end.reserved),
        ("largest free block", peak.largest_free, end.largest_free),
    ):
        table.add_row(name, format_size(at_peak), format_size(at_end))
    table.add_row("fragmentation (stuck / reserved)", f"{peak.fragmentation:.1%}", f"{end.fragmentation:.1%}")
    table.add_row("segments", f"{peak.segments:,}", f"{end.segments:,}")
    return table


def _composition(moment: Moment, console: Console) -> Table:
    """What blocks are for and, where there is room, what that is known from."""
    full, plain = _table("", "bytes", "blocks", "known from"), _table("", "bytes", "blocks")
    for part in moment.parts:
        cells = (_KIND_NAMES[part.kind], format_size(part.bytes), f"{part.blocks:,}")
        full.add_row(*cells, Text(part.known_from))
        plain.add_row(*cells)
    return first_fitting(console, [full], narrower=[plain])


def _sites(moment: Moment, verbose: bool) -> Table:
    """The largest sites, then what all others hold."""
    table = _table("", "bytes", "blocks")
    count = len(moment.sites) if verbose else _MOST_SITES
    shown, rest = moment.sites[:count], moment.sites[count:]
    for site in shown:
        table.add_row(Text(_place(site)), format_size(site.bytes), f"{site.blocks:,}")
    if rest:
        held, blocks = sum(site.bytes for site in rest), sum(site.blocks for site in rest)
        table.add_row(f"{len(rest):,} other sites", format_size(held), f"{blocks:,}")
    return table


def _place(site: Site) -> str:
    return f"{site.file}:{site.line} {site.function}" if site.file else site.function


def _runs_title(report: SnapshotReport) -> str:
    room = "" if report.limit_bytes is None else f", with {limit_words(report)} to reserve"
    return f"The trace under other settings{room}"


def _runs(runs: list[SettingsRun], console: Console) -> Table:
    """The settings come last, their names are long; in a narrow terminal they stand above the figures."""
    limited = runs[0].outcome.limit_bytes is not None
    best = min((run.outcome.peak_reserved for run in runs if run.outcome.fits), default=None)
    last = "fits" if limited else "retries"
    full, plain = _table("peak reserved", "above the best", last, "settings"), _table("peak reserved", last, "settings")
    stacked = Table.grid()
    for run in runs:
        outcome = run.outcome
        # a run that found no memory has no peak: it ended below it
        peak = format_size(outcome.peak_reserved) if outcome.fits else ""
        above = format_size(outcome.peak_reserved - best) if outcome.fits and best is not None else ""
        found = _fit(outcome) if limited else f"{outcome.retries:,}" if outcome.retries else ""
        settings = _settings(outcome)
        full.add_row(peak, above, found, settings)
        plain.add_row(peak, found, settings)
        words = [*([f"{peak} reserved"] if peak else []), *([f"{last}: {found}"] if found else [])]
        stacked.add_row(Text.assemble(settings, "\n  ", ", ".join(words)))
    return first_fitting(console, [full, plain, stacked])


def _settings(outcome: Outcome) -> Text:
    """Long settings are broken where one option ends: within one they could not be read."""
    settings = outcome.settings or "the defaults"
    broken = settings.replace(",", ",\n") if len(settings) > _LONG else settings
    return Text(broken + (" (as recorded)" if outcome.as_recorded else ""))


def _fit(outcome: Outcome) -> str:
    """Whether a run fitted, how often cached memory was freed for it, or where it failed."""
    if outcome.failed_entry is None:
        return f"yes, cache freed {outcome.made_room:,}x" if outcome.made_room else "yes"
    return "no, at the start" if outcome.failed_entry < 0 else f"no, entry {outcome.failed_entry + 1:,}"
