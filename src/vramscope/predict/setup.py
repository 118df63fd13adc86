"""What is predicted of a workload beside its own options: what it trains, and over how many GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from vramscope.predict.parallel import Rank, Ranks, pretended
from vramscope.predict.trainable import Trainable, with_trainable
from vramscope.recording.recording import Recording
from vramscope.workloads.passes import Changes
from vramscope.workloads.workload import PreparedWorkload


@dataclass(frozen=True)
class Setup:
    """Defaults are one GPU and every parameter."""

    trainable: Trainable = Trainable.ALL
    ranks: Ranks | None = None


ONE_GPU = Setup()


@dataclass(frozen=True)
class Arranged:
    """A setup in force: what it changes of the workload, and of its recording."""

    setup: Setup
    rank: Rank | None

    @property
    def changes(self) -> Changes:
        """For a training pass."""
        return Changes(self._built) if self.rank is None else Changes(self._built, self.rank.placed)

    def finished(self, recording: Recording) -> Recording:
        """The recording with what only the setup knows."""
        return recording if self.rank is None else self.rank.finished(recording)

    def _built(self, prepared: PreparedWorkload) -> PreparedWorkload:
        prepared = with_trainable(prepared, self.setup.trainable)
        return prepared if self.rank is None else self.rank.built(prepared)


@contextmanager
def arranged(setup: Setup) -> Iterator[Arranged]:
    """A setup for the time of one pass.

    Raises:
        UsageError: there are ranks, and this process is one of others already.
    """
    with nullcontext() if setup.ranks is None else pretended(setup.ranks) as rank:
        yield Arranged(setup, rank)
