"""Replays a device's trace in the simulator and compares every allocation with the recorded address."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vramscope.allocator import rules
from vramscope.allocator.pass_over import MismatchError, Pass
from vramscope.allocator.snapshot.model import Action, BlockState, Snapshot
from vramscope.allocator.start_state import StartState, rebuild
from vramscope.errors import RecordingError
from vramscope.recording.recording import Integers

_MOST_LESSONS = 256


@dataclass(frozen=True)
class Replay:
    """What the replay of one device found.

    ``allocated``, ``active`` and ``reserved`` are the totals in bytes after each trace entry, ``block_size`` the size
    of the block that an entry allocated or freed (0 for others); ``start_…`` the totals before the first entry.
    ``matched`` of ``allocations`` landed at the recorded address; ``first_mismatch`` is the entry of the first that
    did not.
    """

    device: int
    start: StartState
    start_allocated: int
    start_active: int
    start_reserved: int
    allocations: int
    matched: int
    first_mismatch: int | None
    allocated: Integers
    active: Integers
    reserved: Integers
    block_size: Integers
    marks: tuple[str, ...]
    choice: rules.Choice = rules.Choice.LOWEST
    """Which of several free blocks of one size is taken, by all that the trace shows."""

    @property
    def deduced(self) -> int:
        """Blocks whose size is deduced: each may be up to 1 MiB larger (more under ``max_split_size``)."""
        return len(self.start.guessed)

    @property
    def exact(self) -> bool:
        """Whether nothing contradicts the rules: every figure is the allocator's own."""
        return self.matched == self.allocations and not self.marks

    @property
    def peak_allocated(self) -> int:
        """The most bytes allocated at any moment of the trace, its start included."""
        return max(self.start_allocated, int(self.allocated.max(initial=0)))

    @property
    def peak_reserved(self) -> int:
        """The most bytes reserved at any moment of the trace, its start included."""
        return max(self.start_reserved, int(self.reserved.max(initial=0)))

    @property
    def peak_entry(self) -> int:
        """The trace entry after which most was allocated first; -1 for the start."""
        if not len(self.allocated) or self.start_allocated >= self.allocated.max():
            return -1
        return int(self.allocated.argmax())


def replay(snapshot: Snapshot, device: int) -> Replay:
    """Replay a device's trace under the recorded settings, from the state rebuilt for its beginning.

    An allocation that lands elsewhere is counted and moved to the recorded address, so that one surprise does not
    spoil what follows. A first surprise that the unknown slack of a block explains teaches that slack, and the replay
    restarts. A file does not say which torch has written it: of the ways in which free blocks of one size have been
    chosen among, that counts by which most allocations land where they did.
    """
    start = rebuild(snapshot, device)
    best: Replay | None = None
    for choice in rules.Choice:
        found = _replay(snapshot, device, start, choice)
        if best is None or found.matched > best.matched:
            best = found
        if best.matched == best.allocations:
            break
    assert best is not None
    return best


def _replay(snapshot: Snapshot, device: int, start: StartState, choice: rules.Choice) -> Replay:
    lessons: dict[int, int] = {}
    furthest = -1
    while True:
        learning = len(lessons) < _MOST_LESSONS
        try:
            taught = start.with_slack(lessons, snapshot.settings)
            return _replay_once(snapshot, device, taught, learning, furthest, choice)
        except MismatchError as surprise:
            lessons[surprise.address] = surprise.slack
            furthest = surprise.entry


def pass_until(snapshot: Snapshot, replayed: Replay, entry: int) -> Pass:
    """The replay as it stands after a trace entry (-1: at the start)."""
    run = Pass(snapshot, replayed.device, replayed.start, choice=replayed.choice)
    for index, row in enumerate(run.trace.rows(entry + 1)):
        run.apply(index, row)
    return run


def passes_at(snapshot: Snapshot, replayed: Replay, entries: list[int]) -> Iterator[Pass]:
    """One pass that stops after each of the entries, which rise; whoever takes it must be done before the next."""
    wanted = set(entries)
    if not wanted:
        return
    run = Pass(snapshot, replayed.device, replayed.start, choice=replayed.choice)
    for index, row in enumerate(run.trace.rows(entries[-1] + 1)):
        run.apply(index, row)
        if index in wanted:
            yield run


def _replay_once(
    snapshot: Snapshot, device: int, start: StartState, learning: bool, furthest: int, choice: rules.Choice
) -> Replay:
    run = Pass(snapshot, device, start, learning, furthest, choice)
    totals = run.simulator.totals
    before = (totals.allocated, totals.active, totals.reserved)
    after: list[tuple[int, int, int, int]] = []
    keep: Callable[[tuple[int, int, int, int]], None] = after.append
    for index, row in enumerate(run.trace.rows()):
        size = run.apply(index, row)
        keep((totals.allocated, totals.active, totals.reserved, size))
    try:
        columns = np.array(after, np.int64).reshape(len(after), 4)
    except OverflowError:
        raise RecordingError(f"{snapshot.name}: device {device}: the totals exceed 64 bits; it is damaged") from None
    _compare_end(snapshot, device, run)
    marks = start.marks + tuple(f"{count} × {what}" for what, count in run.marks.items())
    allocations = int(np.count_nonzero(snapshot.traces[device].action == Action.ALLOC))
    return Replay(
        device=device,
        start=start,
        start_allocated=before[0],
        start_active=before[1],
        start_reserved=before[2],
        allocations=allocations,
        matched=run.matched,
        first_mismatch=run.first_mismatch,
        allocated=columns[:, 0].copy(),
        active=columns[:, 1].copy(),
        reserved=columns[:, 2].copy(),
        block_size=columns[:, 3].copy(),
        marks=marks,
        choice=choice,
    )


def _compare_end(snapshot: Snapshot, device: int, run: Pass) -> None:
    """The state after the last entry must be the one that the file states."""
    segments = snapshot.device_segments(device)
    stated = {b.address: b.size for s in segments for b in s.blocks if b.state is not BlockState.FREE}
    found = {block.address: block.size for block in run.simulator.in_use.values()}
    if stated != found:
        different = len(stated.items() ^ found.items())
        run.marks["blocks stand differently in the file than after the replay"] += different
    if sum(segment.size for segment in segments) != run.simulator.totals.reserved:
        run.marks["reserved bytes after the replay differ from the file's"] += 1
