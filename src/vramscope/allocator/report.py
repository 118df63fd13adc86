"""Everything a view shows of a snapshot: the summary, and runs under other settings or limits."""

from dataclasses import dataclass, replace

from vramscope.allocator.demand import demand_of
from vramscope.allocator.settings import AllocatorSettings, describe, parse_settings
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.summary import SnapshotSummary, summarise
from vramscope.allocator.what_if import CANDIDATES, Outcome, run_afresh, run_as_recorded
from vramscope.errors import UnsupportedError


@dataclass(frozen=True)
class Trial:
    """Settings to run under; ``asked`` where the user named them."""

    name: str
    settings: AllocatorSettings
    asked: bool


@dataclass(frozen=True)
class SettingsRun:
    """One device's run; ``asked`` where the user named these settings or, naming none, means the recorded ones."""

    device: int
    outcome: Outcome
    asked: bool
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether settings let every device fit: they hold for the whole process, so one set has to serve all.

    ``too_small`` names the devices that do not fit.
    """

    settings: str
    as_recorded: bool
    asked: bool
    too_small: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether all devices fit."""
        return not self.too_small


@dataclass(frozen=True)
class SnapshotReport:
    """A summary and its runs, per device best first: those that fit, by peak reserved, then those that got furthest.

    ``limit_words`` is the limit as the user gave it, ``notes`` say what the runs had to assume.
    """

    summary: SnapshotSummary
    runs: tuple[SettingsRun, ...] = ()
    limit_bytes: int | None = None
    notes: tuple[str, ...] = ()
    limit_words: str = ""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One per settings that were tried, over all devices; none without a limit."""
        if self.limit_bytes is None:
            return ()
        tried: dict[tuple[str, bool], list[SettingsRun]] = {}
        for run in self.runs:
            tried.setdefault((run.outcome.settings, run.outcome.as_recorded), []).append(run)
        return tuple(
            Verdict(name, as_recorded, runs[0].asked, tuple(run.device for run in runs if not run.outcome.fits))
            for (name, as_recorded), runs in tried.items()
        )

    @property
    def fits(self) -> bool | None:
        """Whether every device fits under settings that were asked for; None without a limit."""
        if self.limit_bytes is None:
            return None
        return any(verdict.fits for verdict in self.verdicts if verdict.asked)


def build_report(
    snapshot: Snapshot,
    asked: tuple[str, ...] = (),
    sweep: bool = False,
    limit_bytes: int | None = None,
    limit_words: str = "",
) -> SnapshotReport:
    """Summarise a snapshot and run what was asked for.

    Args:
        snapshot: what was read.
        asked: option strings to run under.
        sweep: whether to try `CANDIDATES` too; a limit implies it, to tell which settings would fit.
        limit_bytes: what the allocator may reserve at most, on each device.
        limit_words: the same as the user gave it.

    Raises:
        UsageError: an option string is not understood; told before anything is replayed.
        UnsupportedError: other settings or a limit for a file that is no snapshot of the CUDA allocator.
        RecordingError: the snapshot has no history.
    """
    trials = _trials(snapshot, asked, sweep or limit_bytes is not None)
    if trials:
        _require_rules(snapshot)
    summary = summarise(snapshot)
    if not trials:
        return SnapshotReport(summary)
    runs: list[SettingsRun] = []
    notes: list[str] = []
    for device in summary.devices:
        demand = demand_of(snapshot, device.replay)
        recorded = run_as_recorded(demand, limit_bytes)
        runs.append(SettingsRun(device.device, recorded, not asked, snapshot.settings.ignored))
        for trial in trials:
            outcome = run_afresh(demand, trial.settings, trial.name, limit_bytes)
            runs.append(SettingsRun(device.device, outcome, trial.asked, trial.settings.ignored))
        if demand.uncertain:
            notes.append(
                f"{device.name}: releases of cached memory of which the trace does not tell whether the program called "
                f"empty_cache() or the allocator made room: {demand.uncertain}; taken for the allocator's own"
            )
    runs.sort(key=_rank)
    return SnapshotReport(summary, tuple(runs), limit_bytes, tuple(notes), limit_words)


def _rank(run: SettingsRun) -> tuple[int, int, int]:
    """What was reserved when a run stopped ranks nothing: it has no peak yet."""
    failed = run.outcome.failed_entry
    return (run.device, 0, run.outcome.peak_reserved) if failed is None else (run.device, 1, -failed)


def _require_rules(snapshot: Snapshot) -> None:
    """Refuse to run what no CUDA allocator served."""
    if snapshot.exported_from:
        raise UnsupportedError(
            f"{snapshot.name}: vramscope exported it from a {snapshot.exported_from.upper()} recording, to which the "
            "CUDA allocator's rules cannot be applied: leave out --replay, --sweep and --fits, or give a file of "
            "torch.cuda.memory._dump_snapshot"
        )


def _trials(snapshot: Snapshot, asked: tuple[str, ...], sweep: bool) -> tuple[Trial, ...]:
    """What to run under: as asked, then the recorded settings and the candidates, each in effect only once."""
    found = [Trial(text, parse_settings(text), True) for text in asked]
    if sweep:
        found.append(Trial(describe(snapshot.settings), snapshot.settings, False))
        found += [Trial(text, parse_settings(text), False) for text in CANDIDATES]
    once: dict[AllocatorSettings, Trial] = {}
    for trial in found:
        once.setdefault(replace(trial.settings, ignored=()), trial)
    return tuple(once.values())
