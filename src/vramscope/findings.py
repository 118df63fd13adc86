"""What an experiment found, said without torch: claims with their verdicts, profiled passes, and a picture as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vramscope.ledger.summary import PassSummary


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    PARTLY = "partly"
    FAILS = "fails"


class Origin(StrEnum):
    """Who makes a claim."""

    SOURCE = "source"
    """The text that the experiments come from, which is wrong in places."""
    CORRECTION = "correction"
    """What should stand there instead."""
    CONTROL = "control"
    """What must be so if the explanation is right."""
    QUESTION = "question"
    """What a reader may take the source to say: put to the test, whichever way it goes."""


@dataclass(frozen=True)
class Claim:
    """A statement, and what was measured about it.

    Attributes:
        statement: in words.
        checks: what the statement amounts to, each part by name and whether the numbers bear it out.
        measured: the decisive numbers in one line, for people.
        evidence: the numbers, in plain JSON types.
        origin: who makes the claim.

    Raises:
        ValueError: no checks: nothing would decide.
    """

    statement: str
    checks: Mapping[str, bool]
    measured: str
    evidence: Mapping[str, Any]
    origin: Origin = Origin.SOURCE

    def __post_init__(self) -> None:
        """Refuse a claim that nothing decides."""
        if not self.checks:
            raise ValueError(f"the claim {self.statement!r} has no checks")

    @property
    def verdict(self) -> Verdict:
        """Computed from the checks: all, some or none of them."""
        if all(self.checks.values()):
            return Verdict.HOLDS
        return Verdict.PARTLY if any(self.checks.values()) else Verdict.FAILS


@dataclass(frozen=True)
class Timing:
    """Times, which differ from run to run: shown, and no verdict rests on them.

    Attributes:
        statement: what was timed, and as multiples of what.
        times: ratios of seconds by what was timed.
    """

    statement: str
    times: Mapping[str, float]


@dataclass(frozen=True)
class Series:
    """One line, or one set of bars, of a panel.

    ``x`` may be empty: bars stand at the panel's names. ``low`` and ``high``, where given, bound the spread of ``y``.
    """

    label: str
    y: tuple[float, ...]
    x: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class PanelKind(StrEnum):
    """How a panel shows its series."""

    LINES = "lines"
    BARS = "bars"
    STACK = "stack"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        series: what is drawn.
        kind: how.
        names: of the places where bars stand.
        levels: horizontal lines to compare with, by what they mean.
        log_x: horizontal axis in powers of 2.
        log_y: vertical axis in powers of 10.
        markers: a mark at each of a line's points.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: PanelKind = PanelKind.LINES
    names: tuple[str, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    markers: bool = True


@dataclass(frozen=True)
class Picture:
    """An experiment's figure.

    Attributes:
        headline: the answer.
        panels: what shows it; of three the first is the widest.
        caption: how to read the panels, in their order, for someone who has not read the experiment.
    """

    headline: str
    panels: tuple[Panel, ...]
    caption: str = ""


@dataclass(frozen=True)
class Finding:
    """One experiment's outcome.

    Attributes:
        name: as the user types it.
        question: that it answers.
        answer: in a sentence, with numbers.
        claims: each with its verdict.
        passes: the profiled passes by name.
        picture: the figure.
        timings: what was timed beside the claims.
    """

    name: str
    question: str
    answer: str
    claims: tuple[Claim, ...]
    passes: Mapping[str, PassSummary]
    picture: Picture
    timings: tuple[Timing, ...] = ()

    @property
    def max_disagreement_bytes(self) -> int:
        """The largest difference, in any profiled pass, between the allocator's own total and the ledger's; bytes."""
        return max((summary.allocator.max_disagreement_bytes for summary in self.passes.values()), default=0)

    @property
    def sums_are_exact(self) -> bool:
        """Whether in every pass the categories add up to the peak that the allocator itself reports."""
        return self.max_disagreement_bytes == 0 and all(
            sum(summary.peak.by_category.values()) == summary.peak.bytes == summary.allocator.peak_bytes
            for summary in self.passes.values()
        )
