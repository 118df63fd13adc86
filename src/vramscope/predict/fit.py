"""The largest batch or sequence that fits a GPU, what each remedy would change, and what other GPUs would take."""

from collections.abc import Callable
from dataclasses import dataclass

from vramscope.errors import VramscopeError
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import Gpu, neighbours
from vramscope.predict.remedies import Plan, Remedy, remedies_for
from vramscope.predict.scores import expected_error, kind_of, read_scores
from vramscope.predict.search import MOST, Found, Need, Search

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
        """Of the next size, which does not fit; None where it cannot be run, or was not looked at."""
        return self.found.needs.get(self.found.size + 1)


def fit(plan: Plan, over: str, limit: Limit, other_limits: tuple[Limit, ...], progress: Progress) -> Fit:
    """Search, then predict every remedy, then search on the other GPUs.

    Args:
        plan: what to predict.
        over: ``batch`` or ``seq``: what is sized.
        limit: that decides.
        other_limits: of other GPUs.
        progress: told what is predicted next.

    Raises:
        VramscopeError: the workload cannot be predicted at all.
    """
    found = Search(_predictor(plan, over, limit.gpu, progress), limit.bytes).find()
    outcomes = [_outcome(plan, over, found, remedy, limit, progress) for remedy in _remedies(plan, over, found)]
    others = [OtherGpu(other, _elsewhere(plan, over, found, other, progress)) for other in other_limits]
    return Fit(plan, over, limit, found, tuple(outcomes), tuple(others))


def limits_of_neighbours(limit: Limit, headroom_of: Callable[[int], int]) -> tuple[Limit, ...]:
    """The limits of the next smaller and the next larger GPU; ``headroom_of`` gives what stays free of a size."""
    found = (gpu for gpu in neighbours(limit.gpu) if gpu is not None)
    return tuple(Limit(gpu, gpu.usable_bytes, headroom_of(gpu.usable_bytes)) for gpu in found)


def _predictor(plan: Plan, over: str, gpu: Gpu, progress: Progress) -> Callable[[int], Need]:
    def predict(size: int) -> Need:
        progress(f"{gpu.name}: {over} {size}")
        return _need(plan.with_options(**{over: size}), gpu)

    return predict


def _need(plan: Plan, gpu: Gpu) -> Need:
    passes = predict_passes(plan.target, plan.options, gpu, (plan.name,), plan.settings, setup=plan.setup)
    recording = passes[plan.name]
    use = gpu_use(recording, gpu)
    error = f"expected error: {expected_error(kind_of(recording), read_scores())}"
    return Need(use.allocated_bytes, use.reserved_bytes, use.process_bytes[1], (*recording.notes, error))


def _remedies(plan: Plan, over: str, found: Found) -> list[Remedy]:
    """None where no size is left to be helped."""
    return [] if found.refused or found.most else remedies_for(plan, over, found.size + 1)


def _outcome(plan: Plan, over: str, found: Found, remedy: Remedy, limit: Limit, progress: Progress) -> Outcome:
    if remedy.why:
        return Outcome(remedy.name, None, False, remedy.why)
    progress(remedy.name)
    sized = plan.with_options(**{over: found.size + 1})
    try:
        need = _need(remedy.apply(sized), limit.gpu)
    except VramscopeError as error:
        return Outcome(remedy.name, None, False, str(error))
    return Outcome(remedy.name, need, need.process_bytes <= limit.bytes)


def _elsewhere(plan: Plan, over: str, found: Found, limit: Limit, progress: Progress) -> Found:
    """The search on another GPU, begun where the predictions made already say that it will end."""
    sizes = sorted(found.needs)
    first, last = found.needs[sizes[0]], found.needs[sizes[-1]]
    slope = max((last.process_bytes - first.process_bytes) / max(sizes[-1] - sizes[0], 1), 1.0)
    start = min(sizes[0] + int((limit.bytes - first.process_bytes) / slope), 2 * sizes[-1])
    most = found.size if found.refused else MOST
    return Search(_predictor(plan, over, limit.gpu, progress), limit.bytes, most).find(max(start, 1))
