"""The ranks of one distributed run, side by side; totals of several devices are never added up."""

from collections.abc import Mapping
from dataclasses import dataclass

from vramscope.ledger.run import RunSummary
from vramscope.ledger.summary import PassSummary


@dataclass(frozen=True)
class RankedPass:
    """One pass over all ranks.

    ``imbalance`` is the highest peak over the mean of all; ``worst`` is the pass of ``worst_rank``, which has that
    peak: the rank that runs out of memory first.
    """

    peak_bytes: Mapping[int, int]
    imbalance: float
    worst_rank: int
    worst: PassSummary
    passes: Mapping[int, PassSummary]
    """The pass of every rank that has it."""


def merge_ranks(runs: Mapping[int, RunSummary]) -> dict[str, RankedPass]:
    """Every pass that some rank has recorded.

    Args:
        runs: the run of each rank by its number.
    """
    names = dict.fromkeys(name for run in runs.values() for name in run.passes)
    return {
        name: _ranked({rank: run.passes[name] for rank, run in runs.items() if name in run.passes}) for name in names
    }


def _ranked(passes: Mapping[int, PassSummary]) -> RankedPass:
    peaks = {rank: passes[rank].peak.bytes for rank in sorted(passes)}
    worst = max(peaks, key=lambda rank: peaks[rank])
    mean = sum(peaks.values()) / len(peaks)
    return RankedPass(peaks, peaks[worst] / mean if mean else 1.0, worst, passes[worst], passes)


def worst_rank(runs: Mapping[int, RunSummary]) -> int:
    """The rank with the highest peak of any pass, 0 where steps were only counted; the first of several."""
    return max(sorted(runs), key=lambda rank: max((p.peak.bytes for p in runs[rank].passes.values()), default=0))


def missing_ranks(runs: Mapping[int, RunSummary]) -> tuple[int, ...]:
    """The ranks that the recordings speak of and that have left none."""
    ranks = max(int(run.workload.get("ranks", 1)) for run in runs.values())
    return tuple(rank for rank in range(ranks) if rank not in runs)
