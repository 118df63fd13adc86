"""One pass over a trace: every entry is done again in a simulator and held against the recorded addresses."""

from bisect import bisect_right
from collections import Counter

import numpy as np

from vramscope.allocator import expandable, invariants, release, rules
from vramscope.allocator.addresses import RESERVATION, RecordedAddresses
from vramscope.allocator.blocks import DEFAULT_POOL, Block, PoolId
from vramscope.allocator.seeding import Group, cut, group_of, seed
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator
from vramscope.allocator.snapshot.model import UNKNOWN, Action, BlockState, Row, Segment, Snapshot, Trace
from vramscope.allocator.start_state import StartState


class MismatchError(Exception):
    """The first mismatch is explained if the start block at ``address`` has ``slack`` bytes behind its request."""

    def __init__(self, entry: int, address: int, slack: int) -> None:
        """The explanation and the trace entry that it explains."""
        super().__init__()
        self.entry = entry
        self.address = address
        self.slack = slack


class Pass:
    """A simulator that follows a trace.

    Args:
        snapshot: whose device is followed.
        device: its number.
        start: its state before the first entry.
        learning: whether a first mismatch may raise `MismatchError`.
        furthest: the entry that an earlier lesson explained; an explanation must get further than that.
        choice: which free block is taken.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        device: int,
        start: StartState,
        learning: bool = False,
        furthest: int = -1,
        choice: rules.Choice = rules.Choice.LOWEST,
    ) -> None:
        """Ready for the first entry."""
        self.trace = snapshot.traces[device]
        self._pools = pool_finder(self.trace, snapshot.device_segments(device))
        bases = range_bases(snapshot, device, start)
        self.addresses = RecordedAddresses(self._room)
        self._range_bases = sorted(bases.values())
        self.simulator = Simulator(snapshot.settings, addresses=self.addresses, choice=choice)
        self.simulator.ordinary_pools = ordinary_pools(snapshot, device)
        seed(self.simulator, start, bases)
        self.matched = 0
        self.first_mismatch: int | None = None
        self.marks: Counter[str] = Counter()
        self.born: dict[int, int] = {}
        """The trace entry that allocated the block at a (simulated) address; start blocks are not in it."""
        self._mapped: list[tuple[int, int, int, int]] = []
        self._released = False
        """Whether memory went back to the driver just before, with nothing but new segments since."""
        self._place = {block.address: block.address for block in start.blocks}
        self._lacks_completions = lacks_completions(self.trace, snapshot.device_segments(device))
        self._start = start
        self._learning = learning
        self._furthest = furthest

    def apply(self, entry: int, row: Row) -> int:
        """Do one entry; returns the size of the block that it allocated or freed, else 0."""
        action, address, size, stream, pool = row
        if action == Action.ALLOC:
            block_size = self._alloc(entry, row)
            self._mapped.clear()
            self.addresses.forget()
            self._released = False
            return block_size
        if action == Action.SEGMENT_MAP:
            self._mapped.append((address, size, stream, pool))
            self.addresses.announce_range(address)
            return 0
        if self._mapped:
            self._map_for_nothing()
        if action != Action.SEGMENT_ALLOC:
            self._released = action in (Action.SEGMENT_FREE, Action.SEGMENT_UNMAP)
        if action == Action.FREE_REQUESTED:
            return self._free_requested(address)
        if action == Action.FREE_COMPLETED:
            return self._free_completed(address)
        if action == Action.SEGMENT_ALLOC:
            self._segment_alloc(address, size)
        elif action == Action.SEGMENT_FREE:
            self._segment_free(address, size)
        elif action == Action.SEGMENT_UNMAP:
            self._segment_unmap(address, size)
        return 0

    def _map_for_nothing(self) -> None:
        """An allocation that got only some of its pages before memory ran out has left them behind as free memory."""
        for address, size, stream, number in self._mapped:
            block = self._block_at(address)
            if block is None:
                self.addresses.forget()
                self.addresses.announce_range(address)
                small = size % self.simulator.settings.large_segment_size != 0
                pool_id = self._pools(address, number) if self._pools else None
                pool = self.simulator.pool(small, pool_id or DEFAULT_POOL)
                block = expandable.reserve(self.simulator, pool, stream)
            usable = block is not None and not block.mapped and block.address == address and 0 < size <= block.size
            if block is None or not usable:
                self.marks["memory was mapped that the replay already uses"] += 1
            else:
                expandable.map_pages(self.simulator, block, size)
        self._mapped.clear()
        self.addresses.forget()

    def _alloc(self, entry: int, row: Row) -> int:
        _, address, size, stream, number = row
        announced = list(self.addresses.announced)
        if address in self._place:
            self.marks["allocations lie on a block still in use"] += 1
            return 0
        simulator = self.simulator
        pool_id = self._pools(address, number) if self._pools else None
        # after a release a retry asks the driver, whatever the frees that it waited for have made room for meanwhile
        retried = self._released and bool(announced or self._mapped)
        try:
            landed = simulator.malloc(size, stream, pool_id, from_driver=retried)
        except SimulatedOutOfMemory:
            self.marks["allocations are larger than any GPU"] += 1
            return 0
        if landed == address:
            self.matched += 1
        else:
            if self.first_mismatch is None:
                self.first_mismatch = entry
                self._explain(entry, landed, address, size)
            landed = self._move(landed, address, size, stream, announced, pool_id)
        self._place[address] = landed
        self.born[landed] = entry
        return simulator.in_use[landed].size

    def _free_requested(self, address: int) -> int:
        landed = self._place.get(address)
        block = self.simulator.in_use.get(landed) if landed is not None else None
        if block is None or not block.allocated:
            self.marks["frees of blocks that were not in use"] += 1
            return 0
        self.simulator.request_free(block.address)
        size = block.size
        if self._lacks_completions:  # left out when recording (``skip_actions``)
            self.simulator.finish_pending(block.address)
            del self._place[address]
        return size

    def _free_completed(self, address: int) -> int:
        """The block is reusable. If the trace has no requests (``skip_actions``), this is its whole free."""
        landed = self._place.pop(address, None)
        block = self.simulator.in_use.get(landed) if landed is not None else None
        if block is None:
            self.marks["frees of blocks that were not in use"] += 1
            return 0
        size = 0
        if block.allocated:
            self.simulator.request_free(block.address)
            size = block.size
        self.simulator.finish_pending(block.address)
        return size

    def _segment_alloc(self, address: int, size: int) -> None:
        if 0 < size <= self._room(address):
            self.addresses.announce_segment(address, size)
        else:
            self.marks["segments were made where the replay has others"] += 1

    def _segment_free(self, address: int, size: int) -> None:
        block = self.simulator.segments.get(address)
        if block is None or not block.is_free or block.is_split or block.size != size:
            self.marks["segments were returned that the replay still uses"] += 1
        else:
            release.release_segment(self.simulator, block)

    def _segment_unmap(self, address: int, size: int) -> None:
        block = self._block_at(address)
        if block is None or not block.is_free or block.expandable is None or not 0 < size <= block.end - address:
            self.marks["pages were returned that the replay still uses"] += 1
        else:
            expandable.unmap_range(self.simulator, block, address, address + size)

    def _block_at(self, address: int) -> Block | None:
        """The block that holds an address, mapped or not; walks through its segment, so for rare entries."""
        segments = self.simulator.segments
        index = segments.bisect_right(address) - 1
        if index < 0:
            return None
        chain = invariants.chain(segments.values()[index])
        return next((block for block in chain if block.address <= address < block.end), None)

    def _room(self, address: int) -> int:
        """The bytes from an address on to whatever lies behind it; 0 if something holds the address."""
        if self._block_at(address) is not None:
            return 0
        segments, bases = self.simulator.segments, self._range_bases
        segment, base = segments.bisect_right(address), bisect_right(bases, address)
        behind = [*segments.keys()[segment : segment + 1], *bases[base : base + 1]]
        return int(min(behind, default=address + RESERVATION)) - address

    def _explain(self, entry: int, landed: int, recorded: int, size: int) -> None:
        """Raise the slack of a start block that would have made this allocation land where it was recorded.

        Either the recorded address lies a little behind such a block, or the free block taken instead begins at one's
        end and would not have fitted had the slack been larger.
        """
        if not self._learning or entry <= self._furthest:
            return
        taken = self.simulator.in_use[landed]
        there = self._block_at(recorded)
        if there is not None and there.is_free:
            self._suggest(entry, there.previous, recorded - there.address)
        room = taken.size + (taken.next.size if taken.next is not None and taken.next.is_free else 0)
        rounded = rules.round_request(size, self.simulator.settings)
        self._suggest(entry, taken.previous, room - rounded + rules.MIN_BLOCK)

    def _suggest(self, entry: int, block: Block | None, more: int) -> None:
        if block is None or not 0 < more <= rules.SMALL_LIMIT or block.address not in self._start.guessed:
            return
        slack = block.size + more - rules.round_request(block.requested, self.simulator.settings)
        if slack <= rules.SMALL_LIMIT:
            raise MismatchError(entry, block.address, slack)

    def _move(
        self,
        landed: int,
        address: int,
        size: int,
        stream: int,
        announced: list[tuple[int, int]],
        pool_id: PoolId | None,
    ) -> int:
        """Undo an allocation and put it at the recorded address; where that is not free it stays."""
        simulator = self.simulator
        simulator.free(landed)
        segment = simulator.segments.get(landed)
        made_up = segment is not None and segment.is_free and not segment.is_split and segment.expandable is None
        if segment is not None and made_up and landed not in (base for base, _ in announced):
            release.release_segment(simulator, segment)
        block = self._block_at(address)
        if block is None and announced and self._room(announced[-1][0]) >= announced[-1][1]:
            base, bytes_ = announced[-1]
            small = rules.is_small(rules.round_request(size, simulator.settings))
            block = simulator.make_free(
                simulator.add_segment(base, bytes_, stream, simulator.pool(small, pool_id or DEFAULT_POOL))
            )
        rounded = rules.round_request(size, simulator.settings)
        if block is None or not block.is_free or block.end < address + rounded:
            self.marks["allocations lie where the replay has no free memory"] += 1
            return simulator.malloc(size, stream, pool_id)
        return self._place_at(block, address, size)

    def _place_at(self, block: Block, address: int, size: int) -> int:
        """Hand out a part of a free block that begins at ``address``."""
        block.pool.remove(block)
        if address > block.address:
            low, block = block, cut(block, address - block.address)
            low.pool.insert(low)
        return self.simulator.hand_out(block, size, rules.round_request(size, self.simulator.settings))


def lacks_completions(trace: Trace, final: list[Segment]) -> bool:
    """Whether the recording left out the second halves of frees: some block then neither waits nor is completed."""
    if bool((trace.action == Action.FREE_COMPLETED).any()):
        return False
    waiting = {block.address for segment in final for block in segment.blocks if block.state is BlockState.PENDING}
    requested = trace.address[trace.action == Action.FREE_REQUESTED]
    return not waiting.issuperset(requested.tolist())


def range_bases(snapshot: Snapshot, device: int, start: StartState) -> dict[Group, int]:
    """The lowest address of every expandable range that the start or the trace shows, by what shares a range."""
    lowest: dict[Group, int] = {}
    for segment in start.segments:
        if segment.expandable:
            lowest.setdefault(group_of(segment), segment.address)
    trace = snapshot.traces[device]
    pools = pool_finder(trace, snapshot.device_segments(device))
    mapped = trace.action == Action.SEGMENT_MAP
    columns = (trace.address[mapped], trace.size[mapped], trace.stream[mapped], trace.pool[mapped])
    for address, size, stream, number in zip(*(column.tolist() for column in columns), strict=True):
        small = size % snapshot.settings.large_segment_size != 0
        group = (stream, small, (pools(address, number) if pools else None) or DEFAULT_POOL)
        known = lowest.get(group, address)
        if abs(known - address) < RESERVATION:  # farther away lies another range
            lowest[group] = min(known, address)
    return lowest


def ordinary_pools(snapshot: Snapshot, device: int) -> frozenset[PoolId]:
    """Private pools that got ordinary segments although expandable ones were on.

    Pools with an allocator of their own do, and in PyTorch before 2.6 all private pools did.
    """
    trace, final = snapshot.traces[device], snapshot.device_segments(device)
    pools = pool_finder(trace, final) if snapshot.settings.expandable_segments else None
    if pools is None:
        return frozenset()
    held: dict[bool, set[PoolId | None]] = {True: set(), False: set()}
    for segment in final:
        held[segment.expandable].add(segment.pool)
    for action, kind in ((Action.SEGMENT_MAP, True), (Action.SEGMENT_ALLOC, False)):
        rows = np.flatnonzero(trace.action == action)
        held[kind] |= {pools(int(trace.address[row]), int(trace.pool[row])) for row in rows}
    return frozenset(pool for pool in held[False] - held[True] if pool not in (None, DEFAULT_POOL))


class PoolFinder:
    """Tells to which pool an entry's memory belongs: as the entry states, else by the final segments."""

    def __init__(self, pool_ids: tuple[PoolId, ...], segments: list[Segment]) -> None:
        """Index a device's final segments."""
        self._pool_ids = pool_ids
        self._segments = segments
        self._starts = [segment.address for segment in segments]

    def __call__(self, address: int, number: int) -> PoolId | None:
        """The pool of an entry; None where it states none and the address lies in no final segment."""
        if number != UNKNOWN:
            return self._pool_ids[number]
        index = bisect_right(self._starts, address) - 1
        inside = index >= 0 and address < self._segments[index].end
        return self._segments[index].pool if inside else None


def pool_finder(trace: Trace, segments: list[Segment]) -> PoolFinder | None:
    """A finder, or None where all memory belongs to the default pool."""
    pools = {*trace.pool_ids, *(segment.pool for segment in segments)}
    return PoolFinder(trace.pool_ids, segments) if pools - {DEFAULT_POOL} else None
