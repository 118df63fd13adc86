"""What a snapshot's report says in sentences, for the terminal: settings, the replay, the limit."""

from collections.abc import Iterator

from vramscope.allocator.report import SnapshotReport, Verdict
from vramscope.allocator.settings import describe
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.units import format_size


def settings_lines(snapshot: Snapshot) -> Iterator[str]:
    """The allocator's settings, where they are not the defaults or the environment said otherwise."""
    in_force, stated = describe(snapshot.settings), snapshot.settings_text
    if in_force or stated:
        differs = f" (PYTORCH_CUDA_ALLOC_CONF: {stated})" if stated and stated != in_force else ""
        yield f"Allocator settings in force: {in_force or 'the defaults'}{differs}"
    if snapshot.settings.ignored:
        yield _ignored("these settings", snapshot.settings.ignored)


def export_line(snapshot: Snapshot) -> Iterator[str]:
    """That a file is vramscope's own export, and what it therefore lacks."""
    if snapshot.exported_from:
        kind = snapshot.exported_from.upper()
        yield (
            f"vramscope exported this file from a {kind} recording, which knows no segments: the CUDA allocator's "
            "rules do not apply to it, so it is not replayed, and only its peak and its allocation sites are shown."
        )


def remarks(report: SnapshotReport) -> Iterator[str]:
    """How exact the replay was, what the runs assume, and whether the trace fits."""
    summary = report.summary
    if summary.snapshot.exported_from:
        return
    yield f"Replay: {summary.matched:,} of {summary.allocations:,} allocations at the recorded address"
    for device in summary.devices:
        if device.replay.deduced:
            yield (
                f"{device.name}: {device.replay.deduced:,} blocks from before the recording died in it; their rounding "
                "slack shows only where a neighbour does, so each may be larger (by up to 1 MiB without max_split_size)"
            )
    if report.runs:
        yield (
            "Runs not marked as recorded allocate what was alive at the start afresh, for its layout under other "
            "settings is not known; memory outside the allocator (CUDA context, NCCL) is not counted."
        )
    ignored = {run.outcome.settings: run.ignored for run in report.runs if run.ignored and not run.outcome.as_recorded}
    yield from (_ignored(settings, options) for settings, options in ignored.items())
    yield from report.notes
    yield from _limit(report)


def _ignored(settings: str, options: tuple[str, ...]) -> str:
    return f"Of {settings} these options move no block and change no figure here: {', '.join(dict.fromkeys(options))}"


def _limit(report: SnapshotReport) -> Iterator[str]:
    """Whether the trace fits as asked, on which devices not, and what else would do."""
    if report.limit_bytes is None:
        return
    several = len(report.summary.devices) > 1
    room = f"{format_size(report.limit_bytes)} ({report.limit_bytes:,} B)" + (" on each device" if several else "")
    yield f"The trace {'fits' if report.fits else 'does not fit'} in {room}"
    for verdict in report.verdicts:
        if verdict.asked and several and not verdict.fits:
            yield f"  {_name(verdict)}: too small is {', '.join(f'cuda:{device}' for device in verdict.too_small)}"
    fitting = [_name(verdict) for verdict in report.verdicts if verdict.fits]
    whom = "all devices fit" if several else "it fits"
    yield f"  {whom} under {'; '.join(fitting)}" if fitting else f"  {whom} under none of the settings tried"


def _name(verdict: Verdict) -> str:
    return (verdict.settings or "the defaults") + (" (as recorded)" if verdict.as_recorded else "")
