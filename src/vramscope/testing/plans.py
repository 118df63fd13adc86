"""What to measure of each test, and against what to hold it: read from markers and options."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from vramscope.errors import VramscopeError

if TYPE_CHECKING:
    from vramscope.testing.limits import LeakLimit, MemoryLimit
    from vramscope.testing.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What a test's markers and the options ask for."""

    limits: "tuple[MemoryLimit, ...]" = ()
    leaks: "tuple[LeakLimit, ...]" = ()
    gated: bool = False
    """Whether growth since a baseline can fail the test."""

    @property
    def all_limits(self) -> "list[MemoryLimit | LeakLimit]":
        """Limits of both kinds."""
        return [*self.limits, *self.leaks]

    @property
    def is_judged(self) -> bool:
        """Whether the figures can fail the test; where they cannot, a failure to measure does not either."""
        return self.gated or bool(self.all_limits)

    @property
    def warmup(self) -> int:
        """How often to run the test before."""
        return max((limit.warmup for limit in self.all_limits), default=0)

    @property
    def device(self) -> str:
        """The device to record: the GPU that a limit names, else what auto means; the CPU is recorded in any case."""
        named = {limit.device for limit in self.all_limits}
        graphics = sorted(name for name in named if name.startswith("cuda"))
        return graphics[0] if graphics else "cpu" if named == {"cpu"} else "auto"


def check_plans(items: Sequence[pytest.Item], settings: "Settings | None") -> list[str]:
    """What is wrong with the markers of the tests, or with the baseline."""
    problems = []
    for item in items:
        try:
            plan_of(item, settings)
        except VramscopeError as error:
            problems.append(f"{item.nodeid}: {error}")
    if not problems and settings is not None:
        problems += _unmatched([item.nodeid for item in items], settings)
    return problems


def _unmatched(names: Sequence[str], settings: "Settings") -> list[str]:
    """A baseline that knows none of the tests would let all of them pass."""
    if settings.baseline is None or not names or not settings.baseline.keys().isdisjoint(names):
        return []
    return [
        f"{settings.compare_path}: the baseline knows none of the {len(names)} tests of this run ({names[0]}, …): "
        "save it from the same folder with --vramscope-save, or leave --vramscope-compare out"
    ]


def plan_of(item: pytest.Item, settings: "Settings | None") -> Plan | None:
    """What to measure of a test, None for nothing; of several markers for the same thing the closest counts.

    Raises:
        UsageError: a marker is malformed.
    """
    marked = [*_marks(item, "limit_vram"), *_marks(item, "limit_vram_leaks")]
    gated = settings is not None and bool(settings.thresholds)
    if not marked:
        default = _default_limits(settings)
        return Plan(default, gated=gated) if settings is not None and settings.measures_all else None
    limits = _memory_limits(item)
    if not any(limit.category is None for limit in limits):
        limits += _default_limits(settings)
    return Plan(limits, _leak_limits(item), gated)


def _memory_limits(item: pytest.Item) -> "tuple[MemoryLimit, ...]":
    from vramscope.testing.limits import parse_memory_limit

    limits: dict[Any, MemoryLimit] = {}
    for mark in _marks(item, "limit_vram"):
        limit = parse_memory_limit(mark.args, mark.kwargs)
        limits.setdefault((limit.category, limit.device), limit)
    return tuple(limits.values())


def _leak_limits(item: pytest.Item) -> "tuple[LeakLimit, ...]":
    from vramscope.testing.limits import parse_leak_limit

    return tuple(parse_leak_limit(mark.args, mark.kwargs) for mark in _marks(item, "limit_vram_leaks")[:1])


def _marks(item: pytest.Item, name: str) -> "list[pytest.Mark]":
    """The markers, the closest first: a parameter's own come before its function's, which pytest has the other way."""
    marks = list(item.iter_markers(name))
    callspec = getattr(item, "callspec", None)  # of parametrized tests only
    own = () if callspec is None else callspec.marks
    return sorted(marks, key=lambda mark: not any(mark is other for other in own))


def _default_limits(settings: "Settings | None") -> "tuple[MemoryLimit, ...]":
    if settings is None or settings.default_limit_bytes is None:
        return ()
    from vramscope.testing.limits import MemoryLimit

    return (MemoryLimit(settings.default_limit_bytes),)
