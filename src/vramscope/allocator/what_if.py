"""Runs a recorded trace under other settings or on a smaller GPU: what is reserved, and whether it fits."""

from dataclasses import dataclass

from vramscope.allocator.addresses import NO_DEVICE_ADDRESS, MadeUpAddresses
from vramscope.allocator.blocks import DEFAULT_POOL, Block
from vramscope.allocator.demand import Demand, Release
from vramscope.allocator.pass_over import lacks_completions, ordinary_pools, pool_finder, range_bases
from vramscope.allocator.replay import pass_until
from vramscope.allocator.seeding import blocks_by_segment, seed
from vramscope.allocator.settings import AllocatorSettings, describe
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator
from vramscope.allocator.snapshot.model import Action
from vramscope.allocator.start_state import StartState

CANDIDATES = (
    "",
    "expandable_segments:True",
    "expandable_segments:True,large_segment_size_mb:12",
    "large_segment_size_mb:64",
    "max_split_size_mb:32",
    "max_split_size_mb:128",
    "max_split_size_mb:512",
    "roundup_power2_divisions:8",
)
"""The settings that a sweep tries."""

Failure = tuple[int, int]
"""The trace entry whose allocation found no memory (-1: at the start), and its bytes."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run; sizes in bytes.

    ``settings`` is the option string. ``as_recorded`` tells that the run began with the memory laid out as the
    recording has it; others allocate the blocks that were alive at the start afresh, in address order, because how
    they would have lain is not known. ``retries`` counts releases of the whole cache for one allocation,
    ``made_room`` all cases in which cached memory went back to the driver for the rest to fit.
    ``failed_entry`` is the trace entry whose allocation of ``failed_bytes`` found no memory, -1 if it was one of the
    blocks alive at the start; None if all fitted.
    """

    settings: str
    as_recorded: bool
    limit_bytes: int | None
    peak_allocated: int
    peak_reserved: int
    end_reserved: int
    retries: int
    made_room: int
    failed_entry: int | None
    failed_bytes: int

    @property
    def fits(self) -> bool:
        """Whether every allocation found memory."""
        return self.failed_entry is None


def run_as_recorded(demand: Demand, limit_bytes: int | None = None) -> Outcome:
    """The trace under the recorded settings, from the recorded layout.

    Where the limit leaves it room, the figures are those of the trace itself, whatever the allocator did then. Only a
    smaller limit, or an allocation that had failed, is simulated.
    """
    replayed = demand.replayed
    if limit_bytes is not None and replayed.peak_reserved > limit_bytes:
        return run_from_recorded_layout(demand, limit_bytes)
    peak_reserved, further, failure = replayed.peak_reserved, 0, None
    if limit_bytes is not None and demand.fatal is not None:
        peak_reserved, further, failure = _try_failed_allocation(demand, demand.fatal, limit_bytes)
    return Outcome(
        settings=describe(demand.snapshot.settings),
        as_recorded=True,
        limit_bytes=limit_bytes,
        peak_allocated=replayed.peak_allocated,
        peak_reserved=peak_reserved,
        end_reserved=int(replayed.reserved[-1]) if len(replayed.reserved) else replayed.start_reserved,
        retries=sum(found.complete and not found.asked for found in demand.releases),
        made_room=sum(not found.asked for found in demand.releases) + further,
        failed_entry=failure[0] if failure else None,
        failed_bytes=failure[1] if failure else 0,
    )


def _try_failed_allocation(demand: Demand, entry: int, limit_bytes: int) -> tuple[int, int, Failure | None]:
    """Do the allocation that ended the recording.

    Returns:
        The peak reserved, whether (1) or not (0) room had to be made, and the failure if it fails again.
    """
    trace, simulator = demand.trace, pass_until(demand.snapshot, demand.replayed, entry - 1).simulator
    simulator.capacity_bytes = limit_bytes
    try:
        simulator.malloc(int(trace.size[entry]), int(trace.stream[entry]), trace.pool_of(entry))
    except SimulatedOutOfMemory as error:
        return demand.replayed.peak_reserved, 0, (entry, error.requested)
    totals = simulator.totals
    return max(demand.replayed.peak_reserved, totals.peak_reserved), totals.made_room, None


def run_from_recorded_layout(demand: Demand, limit_bytes: int | None = None) -> Outcome:
    """The trace from the recorded layout under the recorded settings, with new segments at made-up addresses."""
    snapshot, replayed = demand.snapshot, demand.replayed
    simulator = _simulator(snapshot.settings, limit_bytes)
    simulator.addresses = MadeUpAddresses(NO_DEVICE_ADDRESS)  # must not meet the recorded ones
    simulator.ordinary_pools = ordinary_pools(snapshot, replayed.device)
    seed(simulator, replayed.start, range_bases(snapshot, replayed.device, replayed.start))
    place = dict(simulator.in_use)
    failure = None
    if limit_bytes is not None and simulator.totals.reserved > limit_bytes:
        simulator.empty_cache()  # a smaller GPU would have made the process release its cache before
        simulator.totals.made_room += 1
        if simulator.totals.reserved > limit_bytes:
            failure = (-1, simulator.totals.reserved - limit_bytes)
    simulator.totals.peak_reserved = simulator.totals.reserved
    failure = failure or _follow(demand, simulator, place)
    return _outcome(simulator, describe(snapshot.settings), True, limit_bytes, failure)


def run_afresh(demand: Demand, settings: AllocatorSettings, name: str, limit_bytes: int | None = None) -> Outcome:
    """The trace under other settings, everything allocated afresh; ``name`` is how the outcome calls them."""
    simulator = _simulator(settings, limit_bytes)
    place: dict[int, Block] = {}
    try:
        _allocate_start(simulator, demand.replayed.start, place)
        failure = _follow(demand, simulator, place)
    except SimulatedOutOfMemory as error:
        failure = (-1, error.requested)
    return _outcome(simulator, name, False, limit_bytes, failure)


def _simulator(settings: AllocatorSettings, limit_bytes: int | None) -> Simulator:
    """With a limit, the process is taken to have set it as its own too, or garbage collection would never run."""
    allowed = limit_bytes if settings.garbage_collection_threshold > 0 else None
    if limit_bytes is not None and settings.per_process_memory_fraction < 1:
        allowed = int(limit_bytes * settings.per_process_memory_fraction)
    return Simulator(settings, capacity_bytes=limit_bytes, allowed_bytes=allowed)


def _allocate_start(simulator: Simulator, start: StartState, place: dict[int, Block]) -> None:
    inside = blocks_by_segment(start)
    for segment in start.segments:
        for block in inside[segment.address]:
            assert block.size is not None
            wanted = block.requested if block.requested >= 0 else block.size
            landed = simulator.malloc(wanted, segment.stream, segment.pool)
            place[block.address] = simulator.in_use[landed]
            if block.pending:
                simulator.request_free(landed)


def _follow(demand: Demand, simulator: Simulator, place: dict[int, Block]) -> Failure | None:
    """Do the program's part of the trace; returns the entry and bytes of an allocation that failed."""
    trace = demand.trace
    final = demand.snapshot.device_segments(demand.replayed.device)
    pools, at_once = pool_finder(trace, final), lacks_completions(trace, final)
    releases = {found.last: found for found in demand.releases}
    for entry, (action, address, size, stream, pool) in enumerate(trace.rows()):
        if (action == Action.ALLOC and address not in place) or entry == demand.fatal:
            try:
                landed = simulator.malloc(size, stream, pools(address, pool) if pools else None)
            except SimulatedOutOfMemory as error:
                return entry, error.requested
            place[address] = simulator.in_use[landed]
        elif action in (Action.FREE_REQUESTED, Action.FREE_COMPLETED):
            _free(simulator, place, address, at_once or action == Action.FREE_COMPLETED)
        elif entry in releases:
            _release(simulator, releases[entry])
    return None


def _release(simulator: Simulator, found: Release) -> None:
    """Release again what the program asked for; the allocator's own releases are left to the simulator's rules."""
    private = found.pools - {DEFAULT_POOL}
    for pool_id in private:
        simulator.release_pool(pool_id)  # the recording could, so nobody referred to it any more
    if not found.asked:
        return
    if DEFAULT_POOL in found.pools:
        simulator.empty_cache()
    else:
        for pool_id in sorted(private):
            simulator.empty_cache(pool_id)


def _free(simulator: Simulator, place: dict[int, Block], address: int, completed: bool) -> None:
    """Either half of a free; a retry may have completed it before."""
    block = place.get(address)
    if block is None:
        return
    held = simulator.in_use.get(block.address) is block
    if held and block.allocated:
        simulator.request_free(block.address)
    if completed:
        del place[address]
        if held:
            simulator.finish_pending(block.address)


def _outcome(
    simulator: Simulator, name: str, as_recorded: bool, limit_bytes: int | None, failure: Failure | None
) -> Outcome:
    totals = simulator.totals
    entry, failed_bytes = failure or (None, 0)
    return Outcome(
        settings=name,
        as_recorded=as_recorded,
        limit_bytes=limit_bytes,
        peak_allocated=totals.peak_allocated,
        peak_reserved=totals.peak_reserved,
        end_reserved=totals.reserved,
        retries=totals.retries,
        made_room=totals.made_room,
        failed_entry=entry,
        failed_bytes=failed_bytes,
    )
