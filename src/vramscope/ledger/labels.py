"""Joining marks to blocks: an address is used many times, so a mark belongs to the block alive there at its moment."""

import numpy as np

from vramscope.ledger.blocks import Blocks
from vramscope.ledger.categories import MARK_PRECEDENCE
from vramscope.recording.recording import Integers, MarkKind, Recording


def deciding_marks(recording: Recording, blocks: Blocks) -> Integers:
    """For each block the row of the mark that decides its label, -1 for a block without one."""
    owner = _marked_blocks(recording, blocks)
    found = np.flatnonzero(owner >= 0)
    precedence = np.empty(len(MarkKind), dtype=np.int64)
    precedence[list(MARK_PRECEDENCE)] = np.arange(len(MARK_PRECEDENCE))
    rank = precedence[recording.marks.kind[found]]
    ordered = found[np.lexsort((found, rank, owner[found]))]
    blocks_marked, first = np.unique(owner[ordered], return_index=True)
    deciding = np.full(len(blocks), -1, dtype=np.int64)
    deciding[blocks_marked] = ordered[first]
    return deciding


def _marked_blocks(recording: Recording, blocks: Blocks) -> Integers:
    """For each mark the block that was alive at its address and time, -1 if there was none."""
    marks = recording.marks
    moment = np.searchsorted(recording.events.time_ns, marks.time_ns, side="right")  # events up to the mark
    if not len(blocks):
        return np.full(len(marks), -1, dtype=np.int64)
    span = len(recording.events) + 2
    places = np.unique(np.stack([blocks.device, blocks.address]), axis=1)
    block_place = _place_of(places, blocks.device, blocks.address)
    mark_place = _place_of(places, marks.device, marks.address)
    order = np.lexsort((blocks.birth, block_place))
    births = block_place[order] * span + blocks.birth[order] + 1
    # The last block born at the mark's place before its moment; births are shifted by one, so seeds count as 0.
    candidate = order[np.maximum(np.searchsorted(births, mark_place * span + moment, side="right") - 1, 0)]
    alive = (
        (block_place[candidate] == mark_place)
        & (blocks.birth[candidate] < moment)
        & (blocks.death[candidate] >= moment)
    )
    return np.where(alive, candidate, -1)


def _place_of(places: Integers, device: Integers, address: Integers) -> Integers:
    """The column of (device, address) among the sorted ``places``, -1 for a place not among them."""
    found = np.full(len(address), -1, dtype=np.int64)
    for number in np.unique(device):
        columns = np.flatnonzero(places[0] == number)
        rows = np.flatnonzero(device == number)
        if not len(columns):
            continue
        spot = np.minimum(np.searchsorted(places[1][columns], address[rows]), len(columns) - 1)
        known = places[1][columns][spot] == address[rows]
        found[rows[known]] = columns[spot[known]]
    return found
