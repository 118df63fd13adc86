"""The final segments of a snapshot, checked against the sums that the file itself states."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

from vramscope.allocator import rules
from vramscope.allocator.blocks import DEFAULT_POOL, PoolId
from vramscope.allocator.snapshot.frames import StackTable
from vramscope.allocator.snapshot.model import UNKNOWN, BlockState, Segment, SnapshotBlock
from vramscope.errors import RecordingError

Mark: TypeAlias = Callable[[str, str], None]
_STATES = {
    "active_allocated": BlockState.ALLOCATED,
    "active_pending_free": BlockState.PENDING,
    "active_awaiting_free": BlockState.PENDING,  # the spelling of the documentation, and of old versions
    "inactive": BlockState.FREE,
}
_MOST_DEVICES = 4096
MOST_BYTES = 2**56
"""Addresses and sizes must lie below: the address space of a GPU ends far earlier."""


def read_segments(raw: list[Any], name: str, stacks: StackTable, mark: Mark, ruled: bool) -> tuple[Segment, ...]:
    """All segments by device and address.

    Args:
        raw: the file's list.
        name: the file, for messages.
        stacks: collects the blocks' stacks.
        mark: takes what contradicts itself, and where.
        ruled: whether the CUDA allocator made them, so that they have its sizes and do not overlap.

    Raises:
        RecordingError: an entry has not the shape of a segment, or two overlap.
    """
    segments = sorted(
        (_read_segment(entry, f"{name}: segment {index}", stacks, mark) for index, entry in enumerate(raw)),
        key=lambda segment: (segment.device, segment.address),
    )
    if not ruled:
        return tuple(segments)
    for segment in segments:
        _check_rules(segment, mark)
    for before, after in pairwise(segments):
        if before.device == after.device and before.end > after.address:
            raise RecordingError(f"{name}: segments at {before.address:#x} and {after.address:#x} overlap; damaged")
    return tuple(segments)


def _read_segment(raw: Any, where: str, stacks: StackTable, mark: Mark) -> Segment:
    if type(raw) is not dict or type(raw.get("blocks")) is not list:
        raise RecordingError(f"{where}: it is no dict with a list of blocks; the file is damaged")
    kind = raw.get("segment_type")
    if type(kind) is not str or kind not in ("small", "large"):
        raise RecordingError(f"{where}: its type is {_shown(kind)}, neither small nor large; the file is damaged")
    address = _whole(raw, "address", where)
    segment = Segment(
        device=_whole(raw, "device", where, _MOST_DEVICES),
        address=address,
        size=_whole(raw, "total_size", where),
        stream=_stream(raw, where),
        small=kind == "small",
        blocks=_read_blocks(raw["blocks"], address, where, stacks, mark),
        pool=read_pool(raw.get("segment_pool_id")) or DEFAULT_POOL,
        expandable=raw.get("is_expandable") is True,
    )
    _check_sums(raw, segment, mark)
    return segment


def _read_blocks(raw: list[Any], address: int, where: str, stacks: StackTable, mark: Mark) -> tuple[SnapshotBlock, ...]:
    """The blocks; each begins where the one before ends, whatever address it states."""
    blocks = []
    for entry in raw:
        if type(entry) is not dict:
            raise RecordingError(f"{where}: a block is a {type(entry).__name__}, not a dict; the file is damaged")
        named = entry.get("state")
        state = _STATES.get(named) if type(named) is str else None
        if state is None:
            raise RecordingError(f"{where}: a block's state is {_shown(named)}; the file is damaged or too new")
        size = _whole(entry, "size", where)
        requested = _whole(entry, "requested_size", where) if "requested_size" in entry else UNKNOWN
        _check_block(entry, address, size, requested, state, where, mark)
        blocks.append(SnapshotBlock(address, size, requested, state, stacks.number(entry.get("frames"))))
        address += size
    return tuple(blocks)


def _check_block(
    entry: dict[str, Any], address: int, size: int, requested: int, state: BlockState, where: str, mark: Mark
) -> None:
    if entry.get("address", address) != address:
        mark("blocks do not begin where the one before ends", where)
    if state is not BlockState.FREE and requested > size:
        mark("blocks are smaller than what was requested", where)


def _check_sums(raw: dict[str, Any], segment: Segment, mark: Mark) -> None:
    """Compare the blocks with the totals that the file states for their segment."""
    active = [block for block in segment.blocks if block.state is not BlockState.FREE]
    sums = {
        "total_size": sum(block.size for block in segment.blocks),
        "allocated_size": sum(block.size for block in active if block.state is BlockState.ALLOCATED),
        "active_size": sum(block.size for block in active),
        "requested_size": sum(block.requested for block in active),
    }
    if any(block.requested == UNKNOWN for block in active):
        del sums["requested_size"]
    for key, total in sums.items():
        if raw.get(key, total) != total:
            mark(f"segments whose blocks do not add up to their {key}", f"at {segment.address:#x}")


def _check_rules(segment: Segment, mark: Mark) -> None:
    """Compare sizes with those that the allocator makes."""
    where = f"at {segment.address:#x}"
    for block in segment.blocks:
        if block.size % rules.MIN_BLOCK or not block.size:
            mark("block sizes are no multiple of 512", where)
    if segment.small and not segment.expandable and segment.size != rules.SMALL_SEGMENT:
        mark("small segments are not 2 MiB", where)


def _whole(raw: dict[str, Any], key: str, where: str, bound: int = MOST_BYTES) -> int:
    value = raw.get(key)
    if type(value) is not int or not 0 <= value < bound:
        raise RecordingError(f"{where}: '{key}' is missing or no whole number in its range; the file is damaged")
    return value


def _stream(raw: dict[str, Any], where: str) -> int:
    value = raw.get("stream", 0)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise RecordingError(f"{where}: 'stream' is no 64-bit number; the file is damaged")
    return value


def read_pool(raw: Any) -> PoolId | None:
    """A pool's id; None for what is no pair of numbers."""
    if type(raw) is tuple and len(raw) == 2 and all(type(part) is int for part in raw):
        return raw[0], raw[1]
    return None


def _shown(value: Any) -> str:
    """A value in a message; only strings are printed, for other objects can be endless."""
    return repr(value[:40]) if type(value) is str else f"a {type(value).__name__}"
