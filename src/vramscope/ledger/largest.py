"""The largest blocks alive at many moments at once."""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import Integers

NO_BLOCK = -1


@dataclass(frozen=True)
class BlockFacts:
    """One block in words; ``label`` is what was seen at its address (a parameter's name), empty if nothing was."""

    size_bytes: int
    category: Category
    module: str
    operator: str | None
    label: str
    phase: str | None


def largest_alive(ledger: Ledger, events: Integers, count: int, device: int = 0) -> Integers:
    """The rows of the largest blocks alive just after each event, the largest first, of equal ones the oldest.

    Args:
        ledger: whose blocks.
        events: [n] rows of events, not decreasing.
        count: how many blocks to find for each.
        device: whose blocks.

    Returns:
        [n, count] rows of blocks, `NO_BLOCK` where fewer are alive.
    """
    blocks = ledger.blocks
    found = np.full((len(events), count), NO_BLOCK, dtype=np.int64)
    have = np.zeros(len(events), dtype=np.int64)
    begins = np.searchsorted(events, blocks.birth, side="left")
    ends = np.searchsorted(events, blocks.death, side="left")
    candidates = np.flatnonzero((blocks.device == device) & (begins < ends))
    # of equal ones the first born, or labelled, comes first: rows follow addresses, which differ from run to run
    keys = (ledger.mark[candidates], blocks.birth[candidates], -blocks.size[candidates])
    for block in candidates[np.lexsort(keys)].tolist():
        places = begins[block] + np.flatnonzero(have[begins[block] : ends[block]] < count)
        found[places, have[places]] = block
        have[places] += 1
        if len(places) and have.min() == count:  # every moment has its own: smaller blocks change nothing
            break
    return found


def describe_block(ledger: Ledger, block: int) -> BlockFacts:
    """A block in words."""
    recording, birth = ledger.recording, int(ledger.blocks.birth[block])
    mark = int(ledger.mark[block])
    return BlockFacts(
        size_bytes=int(ledger.blocks.size[block]),
        category=CATEGORIES[int(ledger.category[block])],
        module=ledger.module_paths[int(ledger.module[block])],
        operator=ledger.operator_at(birth),
        label=recording.strings[int(recording.marks.name[mark])] if mark >= 0 else "",
        phase=ledger.phase_at(birth),
    )
