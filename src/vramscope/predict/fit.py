"""The largest batch or sequence that fits a GPU, what each remedy would change, and what other GPUs would take."""

from collections.abc import Callable
from dataclasses import dataclass

from vramscope.errors import VramscopeError
from vramscope.predict.gpus import Gpu, neighbours
from vramscope.predict.remedies import Plan, Remedy, remedies_for
from vramscope.predict.search import MOST, Found, Need, Search
from vramscope.predict.workers import Workers
from vramscope.workloads.processes import ProcessDiedError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Limit:
    """What a process may take of a GPU; bytes.

    Attributes:
        gpu: whose operator rules hold.
        usable_bytes: what CUDA gives all programs together, contexts included.
        headroom_bytes: what is to stay free of that.
    """

    gpu: Gpu
    usable_bytes: int
    headroom_bytes: int

    @property
    def bytes(self) -> int:
        """The limit itself."""
        return self.usable_bytes - self.headroom_bytes


@dataclass(frozen=True)
class Outcome:
    """What a remedy needs at the first size that does not fit; None where it is not possible, and ``why``."""

    name: str
    need: Need | None
    fits: bool
    why: str = ""


@dataclass(frozen=True)
class OtherGpu:
    """The largest size on another GPU."""

    limit: Limit
    found: Found


@dataclass(frozen=True)
class Fit:
    """A finished search.

    Attributes:
        plan: what was predicted, without the size.
        over: ``batch`` or ``seq``.
        limit: that decides.
        found: the largest size, and all predictions.
        outcomes: of the remedies.
        others: the next smaller and the next larger GPU of the table.
    """

    plan: Plan
    over: str
    limit: Limit
    found: Found
    outcomes: tuple[Outcome, ...]
    others: tuple[OtherGpu, ...]

    @property
    def fits(self) -> bool:
        """Whether any size fits."""
        return self.found.size > 0

    @property
    def need(self) -> Need:
        """Of the largest size that fits, or of the smallest there is."""
        return self.found.needs[self.found.size] if self.fits else min(self.found.needs.items())[1]

    @property
    def next_need(self) -> Need | None:
        """Of the next size, which does not fit; None where none can be run, or was looked at."""
        return None if self.found.next_size is None else self.found.needs[self.found.next_size]


def fit(
    plan: Plan, over: str, limit: Limit, other_limits: tuple[Limit, ...], workers: Workers, progress: Progress
) -> Fit:
    """Search, then predict every remedy, then search on the other GPUs.

    Args:
        plan: what to predict.
        over: ``batch`` or ``seq``: what is sized.
        limit: that decides.
        other_limits: of other GPUs.
        workers: who predict, several at once where one answer does not depend on another.
        progress: told what is predicted next.

    Raises:
        VramscopeError: the workload cannot be predicted at all.
    """
    fitting = _Fitting(plan, over, workers, progress)
    found = fitting.search(limit).find()
    outcomes = fitting.outcomes(found, limit)
    others = workers.map(lambda other: OtherGpu(other, fitting.elsewhere(found, other)), other_limits)
    return Fit(plan, over, limit, found, outcomes, tuple(others))


def limits_of_neighbours(limit: Limit, headroom_of: Callable[[int], int]) -> tuple[Limit, ...]:
    """The limits of the next smaller and the next larger GPU that have more than what ``headroom_of`` keeps free."""
    found = (gpu for gpu in neighbours(limit.gpu) if gpu is not None)
    limits = (Limit(gpu, gpu.usable_bytes, headroom_of(gpu.usable_bytes)) for gpu in found)
    return tuple(other for other in limits if other.bytes > 0)


@dataclass(frozen=True)
class _Fitting:
    """The predictions that a fit is made of; arguments as of `fit`."""

    plan: Plan
    over: str
    workers: Workers
    progress: Progress

    def search(self, limit: Limit, most: int = MOST, unit: int = 1) -> Search:
        """For the largest size below a limit."""

        def predict(size: int) -> Need:
            self.progress(f"{limit.gpu.name}: {self.over} {size}")
            return self.workers.predict(self._sized(size), limit.gpu)

        return Search(predict, limit.bytes, most, self.workers.map, unit)

    def outcomes(self, found: Found, limit: Limit) -> tuple[Outcome, ...]:
        """What each remedy makes of the next size; none where no size is left to be helped."""
        size = found.next_size
        if size is None:
            return ()
        remedies = remedies_for(self.plan, self.over, size, found.unit)
        return tuple(self.workers.map(lambda remedy: self._outcome(size, remedy, limit), remedies))

    def _outcome(self, size: int, remedy: Remedy, limit: Limit) -> Outcome:
        if remedy.why:
            return Outcome(remedy.name, None, False, remedy.why)
        self.progress(remedy.name)
        try:
            need = self.workers.predict(remedy.apply(self._sized(size)), limit.gpu)
        except ProcessDiedError:
            raise
        except VramscopeError as error:
            return Outcome(remedy.name, None, False, str(error))
        return Outcome(remedy.name, need, need.process_bytes <= limit.bytes)

    def elsewhere(self, found: Found, limit: Limit) -> Found:
        """The search on another GPU, begun where the predictions made already say that it will end."""
        sizes = sorted(found.needs)
        first, last = found.needs[sizes[0]], found.needs[sizes[-1]]
        slope = max((last.process_bytes - first.process_bytes) / max(sizes[-1] - sizes[0], 1), 1.0)
        start = min(sizes[0] + int((limit.bytes - first.process_bytes) / slope), 2 * sizes[-1])
        most = found.size if found.next_size is None else MOST
        return self.search(limit, most, found.unit).find(max(start, 1))

    def _sized(self, size: int) -> Plan:
        return self.plan.with_options(**{self.over: size})
