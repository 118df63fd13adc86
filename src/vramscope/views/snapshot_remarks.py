"""What a snapshot's report says in sentences, for the terminal: settings, the replay, the limit."""

from collections.abc import Iterator, Sequence

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
                f"{device.name}: {device.replay.deduced:,} blocks from before the recording were freed in it. Their "
                "full size is known only where the block behind is known too; each of the others may be larger than "
                "counted here, by up to 1 MiB (without max_split_size)"
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


def limit_words(report: SnapshotReport) -> str:
    """The limit, as it was given where that is known."""
    return report.limit_words or format_size(report.limit_bytes or 0)


def _limit(report: SnapshotReport) -> Iterator[str]:
    """Under which of the settings that were asked for the trace fits, on which devices not, and what else would do."""
    if report.limit_bytes is None:
        return
    several = len(report.summary.devices) > 1
    room = f"{limit_words(report)} ({report.limit_bytes:,} B)" + (" on each device" if several else "")
    asked = [verdict for verdict in report.verdicts if verdict.asked]
    fitting, failing = ([v for v in asked if v.fits is fits] for fits in (True, False))
    if fitting:
        yield f"The trace fits in {room} {_under(fitting)}"
        yield from (f"  it does not fit {_under(failing)}" for _ in failing[:1])
    else:
        yield f"The trace does not fit in {room} {_under(failing)}"
    for verdict in failing if several else ():
        yield f"  too small {_under([verdict])}: {', '.join(f'cuda:{device}' for device in verdict.too_small)}"
    others = [verdict for verdict in report.verdicts if not verdict.asked]
    also = [verdict for verdict in others if verdict.fits]
    if others:
        yield f"  of the other settings tried, it fits {_under(also) if also else 'under none'}"


def _under(verdicts: Sequence[Verdict]) -> str:
    """Settings in words, those of the recording first."""
    recorded = ["as recorded" for verdict in verdicts if verdict.as_recorded]
    names = [verdict.settings or "the defaults" for verdict in verdicts if not verdict.as_recorded]
    return " and ".join(recorded + ([f"under {'; '.join(names)}"] if names else []))
