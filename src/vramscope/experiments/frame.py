"""What all experiments share: settings, measuring, and judging by rules that can be exchanged one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vramscope.findings import Claim, Finding, Picture, Timing
from vramscope.ledger.summary import PassSummary

Announce = Callable[[str], None]
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Settings:
    """How to run an experiment.

    Attributes:
        quick: sizes for tests, which take seconds, instead of those for results.
        seed: of weights, data and dropout; experiments with several seeds count on from it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    quick: bool = False
    seed: int = 0
    device: str = "cpu"

    def choose(self, quick: Choice, full: Choice) -> Choice:
        """The value for the quick or for the full setting."""
        return quick if self.quick else full

    def seeds(self, count: int) -> tuple[int, ...]:
        """So many seeds, the given one first."""
        return tuple(range(self.seed, self.seed + count))


class Measurements(Protocol):
    """What an experiment measured; each has a frozen dataclass of its own."""

    @property
    def passes(self) -> Mapping[str, PassSummary]:
        """The profiled passes by name."""
        ...


Measured = TypeVar("Measured", bound=Measurements)


def no_timings(_: Measurements) -> tuple[Timing, ...]:
    """Of an experiment that times nothing."""
    return ()


@dataclass(frozen=True)
class Experiment(Generic[Measured]):
    """An experiment as data: a measurement, and rules each of which judges one claim by what was measured.

    Attributes:
        name: as the user types it.
        question: that it answers.
        measure: runs everything; told where to announce what it does.
        rules: one for each claim.
        answer: a sentence with the decisive numbers.
        draw: the figure.
        count: how many announcements ``measure`` makes.
        time: what was timed beside the claims.
    """

    name: str
    question: str
    measure: Callable[[Settings, Announce], Measured]
    rules: tuple[Callable[[Measured], Claim], ...]
    answer: Callable[[Measured], str]
    draw: Callable[[Measured], Picture]
    count: Callable[[Settings], int]
    time: Callable[[Measured], tuple[Timing, ...]] = no_timings

    def notches(self, settings: Settings) -> int:
        """How many announcements a run makes: the length of its progress bar."""
        return self.count(settings)

    def run(self, settings: Settings, announce: Announce) -> Finding:
        """Measure, judge and say what was found.

        Raises:
            VramscopeError: a workload cannot be recorded, for instance since another profiler is running.
        """
        measured = self.measure(settings, announce)
        return self.judge(measured)

    def judge(self, measured: Measured) -> Finding:
        """What the rules make of the measurements; measures nothing."""
        return Finding(
            name=self.name,
            question=self.question,
            answer=self.answer(measured),
            claims=tuple(rule(measured) for rule in self.rules),
            passes=measured.passes,
            picture=self.draw(measured),
            timings=self.time(measured),
        )
