"""Runs a recorded trace under other settings or on a smaller GPU: what is reserved, and whether it fits."""

from dataclasses import dataclass

from vramscope.allocator.addresses import NO_DEVICE_ADDRESS, MadeUpAddresses
from vramscope.allocator.blocks import Block
from vramscope.allocator.pass_over import lacks_completions, pool_finder, range_bases
from vramscope.allocator.replay import Replay
from vramscope.allocator.seeding import blocks_by_segment, seed
from vramscope.allocator.settings import AllocatorSettings, parse_settings
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator
from vramscope.allocator.snapshot.model import Action, Snapshot
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


@dataclass(frozen=True)
class Outcome:
    """What became of one run; sizes in bytes.

    ``settings`` is the option string. ``as_recorded`` tells that the run began with the memory laid out as the
    recording has it; others allocate the blocks that were alive at the start afresh, in address order, because how
    they would have lain is not known. ``failed_entry`` is the trace entry whose allocation of ``failed_bytes`` found
    no memory, -1 if it was one of the blocks alive at the start; None if all fitted.
    """

    settings: str
    as_recorded: bool
    limit_bytes: int | None
    peak_allocated: int
    peak_reserved: int
    end_reserved: int
    retries: int
    failed_entry: int | None
    failed_bytes: int

    @property
    def fits(self) -> bool:
        """Whether every allocation found memory."""
        return self.failed_entry is None


def run_as_recorded(snapshot: Snapshot, replayed: Replay, limit_bytes: int | None = None) -> Outcome:
    """The trace from the recorded layout under the recorded settings, with new segments at made-up addresses."""
    simulator = _simulator(snapshot.settings, limit_bytes)
    simulator.addresses = MadeUpAddresses(NO_DEVICE_ADDRESS)  # must not meet the recorded ones
    seed(simulator, replayed.start, range_bases(snapshot, replayed.device, replayed.start))
    place = dict(simulator.in_use)
    failure = None
    if limit_bytes is not None and simulator.totals.reserved > limit_bytes:
        simulator.empty_cache()  # a smaller GPU would have made the process release its cache before
        if simulator.totals.reserved > limit_bytes:
            failure = (-1, simulator.totals.reserved - limit_bytes)
    simulator.totals.peak_reserved = simulator.totals.reserved
    failure = failure or _follow(snapshot, replayed.device, simulator, place)
    return _outcome(simulator, snapshot.settings_text, True, limit_bytes, failure)


def run_with(snapshot: Snapshot, replayed: Replay, settings_text: str, limit_bytes: int | None = None) -> Outcome:
    """The trace under other settings, everything allocated afresh.

    Raises:
        UsageError: the settings are not understood.
    """
    simulator = _simulator(parse_settings(settings_text), limit_bytes)
    place: dict[int, Block] = {}
    try:
        _allocate_start(simulator, replayed.start, place)
        failure = _follow(snapshot, replayed.device, simulator, place)
    except SimulatedOutOfMemory as error:
        failure = (-1, error.requested)
    return _outcome(simulator, settings_text, False, limit_bytes, failure)


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


def _follow(snapshot: Snapshot, device: int, simulator: Simulator, place: dict[int, Block]) -> tuple[int, int] | None:
    """Do the program's part of the trace; returns the entry and bytes of an allocation that failed."""
    trace = snapshot.traces[device]
    final = snapshot.device_segments(device)
    pools, at_once = pool_finder(final), lacks_completions(trace, final)
    columns = (trace.action, trace.address, trace.size, trace.stream)
    releasing = False
    for entry, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        action, address, size, stream = row
        if action == Action.ALLOC and address not in place:
            try:
                landed = simulator.malloc(size, stream, pools(address) if pools else None)
            except SimulatedOutOfMemory as error:
                return entry, error.requested
            place[address] = simulator.in_use[landed]
        elif action in (Action.FREE_REQUESTED, Action.FREE_COMPLETED):
            _free(simulator, place, address, at_once or action == Action.FREE_COMPLETED)
        releases = action in (Action.SEGMENT_FREE, Action.SEGMENT_UNMAP)
        if releases and not releasing:
            simulator.empty_cache()  # a run of returned segments is one release of the cache
        releasing = releases
    return None


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
    simulator: Simulator, text: str, as_recorded: bool, limit_bytes: int | None, failure: tuple[int, int] | None
) -> Outcome:
    totals = simulator.totals
    entry, failed_bytes = failure or (None, 0)
    return Outcome(
        settings=text,
        as_recorded=as_recorded,
        limit_bytes=limit_bytes,
        peak_allocated=totals.peak_allocated,
        peak_reserved=totals.peak_reserved,
        end_reserved=totals.reserved,
        retries=totals.retries,
        failed_entry=entry,
        failed_bytes=failed_bytes,
    )
