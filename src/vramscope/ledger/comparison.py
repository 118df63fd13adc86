"""Passes of one workload side by side: what `compare` and `estimate` show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import PassSummary, summarize_ledger
from vramscope.recording.recording import Recording

OF_ONE_PASS = ("modules", "pass")
"""What a recording's workload says of its own pass, and of its model's parts."""


@dataclass(frozen=True)
class RunWindow:
    """Which window of a script's run, counted from 0, and the steps in it."""

    number: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Comparison:
    """Passes by name (``inference``, ``training``), in the order in which they are shown.

    ``workload`` holds name, target, device, dtype, batch, seq, optimizer and parameter_count; ``environment`` the
    versions and the machine. ``window`` is there where all is of one window of a script's run.
    """

    workload: Mapping[str, Any]
    environment: Mapping[str, Any]
    passes: Mapping[str, PassSummary]
    ledgers: Mapping[str, Ledger]
    predicted: bool = False
    window: RunWindow | None = None

    @property
    def peak_ratio(self) -> float | None:
        """Training's peak over inference's, None where either is missing or inference took nothing."""
        if "training" not in self.passes or "inference" not in self.passes:
            return None
        inference_bytes = self.passes["inference"].peak.bytes
        return self.passes["training"].peak.bytes / inference_bytes if inference_bytes else None


def compare_recordings(recordings: Mapping[str, Recording]) -> Comparison:
    """The comparison of recordings of one workload, by pass name."""
    return compare_ledgers({name: Ledger(recording) for name, recording in recordings.items()})


def compare_ledgers(ledgers: Mapping[str, Ledger]) -> Comparison:
    """The comparison of ledgers of one workload, by pass name."""
    last = list(ledgers.values())[-1].recording  # training's, whose workload names the optimizer
    return Comparison(
        workload={key: value for key, value in last.workload.items() if key not in OF_ONE_PASS},
        environment=last.environment,
        passes={name: summarize_ledger(ledger) for name, ledger in ledgers.items()},
        ledgers=ledgers,
    )
