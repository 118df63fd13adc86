"""Makes snapshots as PyTorch writes them, from a program run on the simulator."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from vramscope.allocator import invariants
from vramscope.allocator.addresses import AddressSource, MadeUpAddresses
from vramscope.allocator.blocks import DEFAULT_POOL, Block, PoolId
from vramscope.allocator.demand import Demand, demand_of
from vramscope.allocator.replay import replay
from vramscope.allocator.rules import Choice
from vramscope.allocator.settings import AllocatorSettings, parse_settings
from vramscope.allocator.simulator import SimulatedOutOfMemory, Simulator
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.allocator.what_if import Outcome, run_afresh

KIB, MIB, GIB = 1024, 1024**2, 1024**3
GENUINE = Path(__file__).parents[2].parent / "shared" / "snapshots"
"""Recordings of real GPUs, beside the repository where they were handed out."""

Frames = list[dict[str, Any]]


def recorded(name: str) -> Path:
    """A recorded snapshot; a test skips where it is not there."""
    path = GENUINE / f"{name}.pickle"
    if not path.is_file():
        pytest.skip(f"the recorded snapshots are not in {GENUINE}")
    return path


def frame(name: str, filename: str, line: int) -> dict[str, Any]:
    return {"name": name, "filename": filename, "line": line}


Memory = tuple[int, int, PoolId, bool]
"""Bytes, stream, pool, and whether it is a page of an expandable segment."""

LINE: Frames = [{"name": "main", "filename": "train.py", "line": 7}]
EMPTY_CACHE: Frames = [{"name": "empty_cache", "filename": "torch/cuda/memory.py", "line": 226}, *LINE]


class Falling(MadeUpAddresses):
    """Every new segment lies below the one before, as where a driver fills its address space from above."""

    def segment(self, size: int) -> int:
        self._next -= size
        return self._next


class Program:
    """A program whose allocator writes a history; ``snapshot()`` is what `_dump_snapshot` would pickle.

    ``names_pools``: every entry tells its memory pool, as the newest versions of PyTorch do.
    """

    def __init__(
        self,
        settings: str = "",
        capacity: int | None = None,
        allowed: int | None = None,
        names_pools: bool = False,
        addresses: AddressSource | None = None,
        choice: Choice = Choice.LOWEST,
    ) -> None:
        self.names_pools = names_pools
        self.settings_text = settings
        self.settings: AllocatorSettings = parse_settings(settings)
        self.simulator = Simulator(self.settings, capacity, allowed, addresses, choice)
        self.trace: list[dict[str, Any]] = []
        self._frames: dict[int, Frames] = {}
        self._time = 1_000_000
        self._mapped = self._memory()
        self.peaks: list[tuple[int, int]] = []
        """Allocated and reserved bytes after each trace entry."""

    def malloc(self, size: int, stream: int = 0, pool: PoolId | None = None, frames: Frames | None = None) -> int:
        waiting = [block for block in self.simulator.in_use.values() if block.pending]
        requests = {id(block): (block.address, block.requested, block.stream) for block in waiting}
        try:
            address = self.simulator.malloc(size, stream, pool)
        except SimulatedOutOfMemory:
            self._log_retry(requests, waiting)
            self._log_memory(frames)
            free = (self.simulator.capacity_bytes or 0) - self.simulator.totals.reserved
            self._log("oom", None, size, stream, frames, pool, device_free=free)
            raise
        self._log_retry(requests, waiting)
        self._log_memory(frames)
        self._frames[address] = frames or []
        self._log("alloc", address, size, stream, frames, pool)
        return address

    def free(self, address: int) -> None:
        block = self.simulator.in_use[address]
        size, stream, waits, pool = block.requested, block.stream, bool(block.stream_uses), block.pool.id
        self.simulator.free(address)
        self._log("free_requested", address, size, stream, pool=pool)
        if not waits:
            self._log("free_completed", address, size, stream, pool=pool)

    def finish(self, address: int) -> None:
        block = self.simulator.in_use[address]
        size, stream, pool = block.requested, block.stream, block.pool.id
        self.simulator.finish_pending(address)
        self._log("free_completed", address, size, stream, pool=pool)

    def empty_cache(self, frames: Frames | None = None, pool: PoolId = DEFAULT_POOL) -> None:
        """Waiting blocks are reported as reusable first, as PyTorch does."""
        for block in [block for block in self.simulator.in_use.values() if block.pending]:
            if pool in (DEFAULT_POOL, block.pool.id):
                self.finish(block.address)
        self.simulator.empty_cache(pool)
        self._log_memory(frames)

    def _log_retry(self, requests: dict[int, tuple[int, int, int]], waiting: list[Block]) -> None:
        """A retry waits for all streams: log the frees that it completed."""
        for block in waiting:
            if not block.pending:
                address, size, stream = requests[id(block)]
                self._log("free_completed", address, size, stream)

    def _log(
        self,
        action: str,
        address: int | None,
        size: int,
        stream: int,
        frames: Frames | None = None,
        pool: PoolId | None = None,
        **more: int,
    ) -> None:
        self._time += 10
        entry: dict[str, Any] = {"action": action, "size": size, "stream": stream, "time_us": self._time, **more}
        if address is not None:
            entry["addr"] = address
        if frames is not None:
            entry["frames"] = frames
        if self.names_pools:
            entry["pool_id"] = pool or DEFAULT_POOL
        self.trace.append(entry)
        self.peaks.append((self.simulator.totals.allocated, self.simulator.totals.reserved))

    def _log_memory(self, frames: Frames | None = None) -> None:
        """Log what the driver gave or took since the last entry, what was taken first."""
        before, after = self._mapped, self._memory()
        for verbs, gone, kept in ((("free", "unmap"), before, after), (("alloc", "map"), after, before)):
            for address, (size, stream, pool, expandable) in joined_pages(gone, gone.keys() - kept.keys()):
                self._log(f"segment_{verbs[expandable]}", address, size, stream, frames, pool)
        self._mapped = after

    def _memory(self) -> dict[int, Memory]:
        """Segments, and pages of expandable segments: (size, stream, pool, expandable) by address."""
        memory: dict[int, Memory] = {}
        for address, first in self.simulator.segments.items():
            if first.expandable is None:
                memory[address] = (
                    sum(block.size for block in invariants.chain(first)),
                    first.stream,
                    first.pool.id,
                    False,
                )
                continue
            page = first.expandable.page_size
            for low, high in mapped_ranges(first):
                for start in range(low, high, page):
                    memory[start] = (page, first.stream, first.pool.id, True)
        return memory

    def snapshot(self, skip: int = 0) -> dict[str, Any]:
        """The dict of a snapshot taken now whose history lost its first ``skip`` entries."""
        return {
            "segments": [segment for first in self.simulator.segments.values() for segment in self._segments(first)],
            "device_traces": [self.trace[skip:]],
            "allocator_settings": settings_dict(self.settings_text, self.settings),
            "external_annotations": [],
        }

    def _segments(self, first: Block) -> list[dict[str, Any]]:
        return [self._segment(first, low, high) for low, high in mapped_ranges(first)]

    def _segment(self, first: Block, low: int, high: int) -> dict[str, Any]:
        inside = [block for block in invariants.chain(first) if low <= block.address < high]
        active = [block for block in inside if block.allocated or block.pending]
        return {
            "device": 0,
            "address": low,
            "total_size": high - low,
            "allocated_size": sum(block.size for block in active if block.allocated),
            "active_size": sum(block.size for block in active),
            "requested_size": sum(block.requested for block in active),
            "stream": first.stream,
            "segment_type": "small" if first.pool.small else "large",
            "segment_pool_id": first.pool.id,
            "is_expandable": first.expandable is not None,
            "frames": [],
            "blocks": [
                {
                    "address": block.address,
                    "size": block.size,
                    "requested_size": block.requested,
                    "state": state(block),
                    "frames": self._frames.get(block.address, []) if block.allocated else [],
                }
                for block in inside
            ],
        }


def state(block: Block) -> str:
    if block.allocated:
        return "active_allocated"
    return "active_pending_free" if block.pending else "inactive"


def joined_pages(memory: dict[int, Memory], addresses: set[int]) -> list[tuple[int, Memory]]:
    """Some of the memory by address; pages of a range that follow one another are one, as PyTorch logs them."""
    found: list[tuple[int, Memory]] = []
    for address in sorted(addresses):
        size, stream, pool, expandable = memory[address]
        start, (before, *alike) = found[-1] if found else (0, (0, 0, DEFAULT_POOL, False))
        if expandable and start + before == address and alike == [stream, pool, expandable]:
            found[-1] = (start, (before + size, stream, pool, expandable))
        else:
            found.append((address, memory[address]))
    return found


def mapped_ranges(first: Block) -> list[tuple[int, int]]:
    """The runs of memory of one segment or address range."""
    ranges: list[tuple[int, int]] = []
    for block in invariants.chain(first):
        if block.mapped and ranges and ranges[-1][1] == block.address:
            ranges[-1] = (ranges[-1][0], block.end)
        elif block.mapped:
            ranges.append((block.address, block.end))
    return ranges


def settings_dict(text: str, settings: AllocatorSettings) -> dict[str, Any]:
    divisions = settings.roundup_power2_divisions or (0,) * 16
    return {
        "PYTORCH_CUDA_ALLOC_CONF": text,
        "max_split_size": -1 if settings.max_split_size is None else settings.max_split_size,
        "garbage_collection_threshold": settings.garbage_collection_threshold,
        "expandable_segments": settings.expandable_segments,
        "roundup_power2_divisions": {str(1 << index): value for index, value in enumerate(divisions)},
    }


def write(raw: object, path: Path, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(raw, protocol))
    return path


def load(raw: object, folder: Path, protocol: int = 4) -> Snapshot:
    """What vramscope reads when the object is pickled to a file."""
    return read_snapshot(write(raw, folder / "snapshot.pickle", protocol))


def demanded(program: Program, folder: Path) -> Demand:
    """What the program's whole history says that it demanded."""
    snapshot = load(program.snapshot(), folder)
    return demand_of(snapshot, replay(snapshot, 0))


def run_with(demand: Demand, settings: str, limit_bytes: int | None = None) -> Outcome:
    """The trace under the settings of an option string."""
    return run_afresh(demand, parse_settings(settings), settings, limit_bytes)


def training_step() -> Program:
    """A small program with all kinds of allocations and stacks, for tests that only need some snapshot."""
    program = Program()
    weights = [program.malloc(size, frames=[]) for size in (3 * MIB, 300 * KIB, 12 * MIB)]
    forward = [frame("relu", "model.py", 7), frame("forward", "model.py", 12), frame("<module>", "train.py", 40)]
    backward = [frame("torch::autograd::Engine::thread_main()", "??", 0)]
    step = [frame("step", "site-packages/torch/optim/sgd.py", 90), frame("<module>", "train.py", 44)]
    kept = [program.malloc(700 * KIB + 37 * i, frames=forward) for i in range(6)]
    gradients = [program.malloc(2 * MIB + 100 * i, frames=backward) for i in range(4)]
    for address in kept:
        program.free(address)
    scratch = program.malloc(5 * MIB, frames=step)
    program.free(scratch)
    for address in gradients:
        program.free(address)
    program.malloc(900, frames=[frame("log", "train.py", 50)])
    program.free(weights[1])
    return program
