"""Everything a view shows of a snapshot: the summary, and runs under other settings or limits."""

from dataclasses import dataclass

from vramscope.allocator.settings import parse_settings
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.summary import SnapshotSummary, summarise
from vramscope.allocator.what_if import CANDIDATES, Outcome, run_as_recorded, run_with


@dataclass(frozen=True)
class SettingsRun:
    """One device's run; ``asked`` where the user named these settings or, naming none, means the recorded ones."""

    device: int
    outcome: Outcome
    asked: bool


@dataclass(frozen=True)
class SnapshotReport:
    """A summary and its runs, best first: those that fit, then by peak reserved."""

    summary: SnapshotSummary
    runs: tuple[SettingsRun, ...] = ()
    limit_bytes: int | None = None

    @property
    def fits(self) -> bool | None:
        """Whether every device fits under settings that were asked for; None without a limit."""
        if self.limit_bytes is None:
            return None
        fitting = {run.device for run in self.runs if run.asked and run.outcome.fits}
        return fitting == {device.device for device in self.summary.devices}


def build_report(
    snapshot: Snapshot, asked: tuple[str, ...] = (), sweep: bool = False, limit_bytes: int | None = None
) -> SnapshotReport:
    """Summarise a snapshot and run what was asked for.

    Args:
        snapshot: what was read.
        asked: option strings to run under.
        sweep: whether to try `CANDIDATES` too; a limit implies it, to tell which settings would fit.
        limit_bytes: what the allocator may reserve at most.

    Raises:
        UsageError: an option string is not understood; told before anything is replayed.
        RecordingError: the snapshot has no history.
    """
    for text in asked:
        parse_settings(text)
    summary = summarise(snapshot)
    candidates = (snapshot.settings_text, *CANDIDATES) if sweep or limit_bytes is not None else ()
    texts = tuple(dict.fromkeys((*asked, *candidates)))
    if not texts:
        return SnapshotReport(summary)
    runs: list[SettingsRun] = []
    for device in summary.devices:
        recorded = run_as_recorded(snapshot, device.replay, limit_bytes)
        runs.append(SettingsRun(device.device, recorded, not asked))
        runs += [
            SettingsRun(device.device, run_with(snapshot, device.replay, text, limit_bytes), text in asked)
            for text in texts
        ]
    runs.sort(key=lambda run: (run.device, not run.outcome.fits, run.outcome.peak_reserved))
    return SnapshotReport(summary, tuple(runs), limit_bytes)
