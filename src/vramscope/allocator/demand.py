"""What a program demanded of the allocator in a trace, apart from what the allocator chose to do about it."""

from dataclasses import dataclass

import numpy as np

from vramscope.allocator import release, rules
from vramscope.allocator.blocks import DEFAULT_POOL, PoolId
from vramscope.allocator.replay import Replay, passes_at
from vramscope.allocator.simulator import Simulator
from vramscope.allocator.snapshot.model import Action, Snapshot, Trace

_RETURNS = (Action.SEGMENT_FREE, Action.SEGMENT_UNMAP)
_TAKES = (Action.SEGMENT_ALLOC, Action.SEGMENT_MAP, Action.OOM)
_BETWEEN = (*_RETURNS, Action.FREE_COMPLETED, Action.SNAPSHOT, Action.ANNOTATE, Action.OTHER)
"""What a call that returns memory may log before it takes new memory."""


@dataclass(frozen=True)
class Release:
    """A run of segments and pages that went back to the driver.

    ``last`` is its last trace entry, ``pools`` those that it was taken from. ``complete`` tells that nothing whole was
    left in the cache. ``asked``: the program called ``empty_cache``; else the allocator made room for an allocation
    (garbage collection, oversize blocks, a retry). ``certain`` is False where the trace does not tell which.
    """

    last: int
    pools: frozenset[PoolId]
    complete: bool
    asked: bool
    certain: bool


@dataclass(frozen=True)
class Demand:
    """One device's trace, and which of its releases the program asked for.

    ``fatal`` is the entry of an allocation that failed for lack of memory and after which the program allocated
    nothing more; None if there is none.
    """

    snapshot: Snapshot
    replayed: Replay
    releases: tuple[Release, ...]
    fatal: int | None

    @property
    def trace(self) -> Trace:
        """The device's history."""
        return self.snapshot.traces[self.replayed.device]

    @property
    def uncertain(self) -> int:
        """Releases of which the trace does not tell who wanted them."""
        return sum(not found.certain for found in self.releases)


def demand_of(snapshot: Snapshot, replayed: Replay) -> Demand:
    """Tell the program's own releases of the cache from those that the allocator decided on.

    The allocator's own happen within an allocation: new memory, or a failure, follows at once and carries the same
    stack. Without stacks, a release that leaves whole segments cached is the allocator's, and one after which the
    reserved bytes would not have passed their peak of the trace had it not happened is the program's: the driver had
    no reason to refuse. Any other is taken for a retry, and not certain.
    """
    trace = snapshot.traces[replayed.device]
    runs = _runs(trace)
    complete = [_is_complete(run.simulator) for run in passes_at(snapshot, replayed, [last for _, last in runs])]
    following = _following([last for _, last in runs], trace)
    releases = tuple(
        Release(last, _pools(trace, first, last), whole, *_judge(snapshot, replayed, (first, last, taking), whole))
        for (first, last), taking, whole in zip(runs, following, complete, strict=True)
    )
    return Demand(snapshot, replayed, releases, _fatal(trace))


def _runs(trace: Trace) -> list[tuple[int, int]]:
    """First and last entry of every unbroken run of returned memory."""
    returns = np.concatenate(([False], np.isin(trace.action, _RETURNS), [False]))
    edges = np.flatnonzero(returns[1:] != returns[:-1])
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _is_complete(simulator: Simulator) -> bool:
    pools = (simulator.pool(False), simulator.pool(True))
    return not any(release.releasable_bytes(block) for pool in pools for block in pool.free_blocks())


def _pools(trace: Trace, first: int, last: int) -> frozenset[PoolId]:
    return frozenset(trace.pool_of(entry) or DEFAULT_POOL for entry in range(first, last + 1))


def _judge(
    snapshot: Snapshot, replayed: Replay, entries: tuple[int, int, int | None], complete: bool
) -> tuple[bool, bool]:
    """Whether the program asked for a release, and whether that is certain.

    ``entries`` are the first and last of the release, and that which takes memory in what may be the same call.
    """
    trace, (first, last, taking) = snapshot.traces[replayed.device], entries
    if taking is None:
        return True, True
    if trace.stack[last] or trace.stack[taking]:
        return bool(trace.stack[last] != trace.stack[taking]), True
    if not complete:
        return False, True
    before = int(replayed.reserved[first - 1]) if first else replayed.start_reserved
    collects = snapshot.settings.garbage_collection_threshold > 0
    needless = before + _taken(snapshot, trace, taking) <= replayed.peak_reserved
    return needless and not collects, needless and not collects


def _following(lasts: list[int], trace: Trace) -> list[int | None]:
    """For each release the entry that takes memory, or fails to, within what may be the same call."""
    others = np.flatnonzero(~np.isin(trace.action, _BETWEEN))
    places = np.searchsorted(others, lasts)
    entries = [int(others[place]) if place < len(others) else None for place in places.tolist()]
    return [None if entry is None or trace.action[entry] not in _TAKES else entry for entry in entries]


def _taken(snapshot: Snapshot, trace: Trace, entry: int) -> int:
    """The bytes that one call asks of the driver, from its first entry on."""
    if trace.action[entry] == Action.OOM:
        return rules.segment_size(int(trace.size[entry]), snapshot.settings)
    taken = 0
    while entry < len(trace) and trace.action[entry] in (Action.SEGMENT_ALLOC, Action.SEGMENT_MAP):
        taken, entry = taken + int(trace.size[entry]), entry + 1
    return taken


def _fatal(trace: Trace) -> int | None:
    failures = np.flatnonzero(trace.action == Action.OOM)
    allocations = np.flatnonzero(trace.action == Action.ALLOC)
    if not len(failures) or (len(allocations) and allocations[-1] > failures[-1]):
        return None
    # one failure may be tried again and again on the way down: the first of the last ones is what the program wanted
    after = failures if not len(allocations) else failures[failures > allocations[-1]]
    return int(after[0])
