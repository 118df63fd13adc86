"""Operators and the memory they ask for: at a moment, at most, and in all."""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.periods import Window
from vramscope.ledger.summary import steady_window
from vramscope.recording.recording import Integers

NO_OPERATOR = "(no operator)"
OLDER = "(older than the recording)"


@dataclass(frozen=True)
class OperatorRow:
    """What all calls of one operator made; bytes.

    ``bytes_at_peak`` of all rows sum to the peak; ``peak_bytes`` is the most that this operator's blocks held together,
    at a moment of their own; ``allocated_bytes`` adds up every allocation of the window, freed or not.
    """

    name: str
    bytes_at_peak: int
    peak_bytes: int
    allocated_bytes: int
    allocations: int


def operator_rows(ledger: Ledger, device: int = 0) -> tuple[OperatorRow, ...]:
    """The operators of the steady steps, those that hold most at the peak first; operators without a byte are left out.

    A block belongs to the operator that the program, or a backward node, was running when it was made; to the node
    where it ran none.
    """
    window, blocks = steady_window(ledger), ledger.blocks
    top = ledger.peak(window, device)
    names, group = operator_groups(ledger)
    mine = blocks.device == device
    at_peak = _sums(group, len(names), blocks.size, mine & ledger.alive_at(top))
    peaks = ledger.peaks_by_group(group, len(names), mine, window, device)
    born = mine & _born_within(blocks.birth, window)
    allocated = _sums(group, len(names), blocks.size, born)
    counts = _sums(group, len(names), np.ones_like(blocks.size), born)
    columns = zip(names, at_peak.tolist(), peaks.tolist(), allocated.tolist(), counts.tolist(), strict=True)
    rows = [OperatorRow(*column) for column in columns if any(column[1:])]
    return tuple(sorted(rows, key=lambda row: (-row.bytes_at_peak, -row.peak_bytes, -row.allocated_bytes, row.name)))


def operator_groups(ledger: Ledger) -> tuple[tuple[str, ...], Integers]:
    """The names of all operators, and for each block the number of its operator among them."""
    recording, lineage, blocks = ledger.recording, ledger.lineage, ledger.blocks
    scope = np.where(lineage.operator >= 0, lineage.operator, lineage.node)[blocks.birth_scope]
    text = np.append(recording.scopes.name, 0)[scope]
    names = (NO_OPERATOR, OLDER, *recording.strings)
    number = np.where(scope >= 0, text + 2, 0)
    return names, np.where(blocks.birth == BEFORE, 1, number)


def _born_within(birth: Integers, window: Window) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return (birth >= window.first) & (birth < window.last)


def _sums(
    group: Integers, count: int, values: Integers, chosen: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> Integers:
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, group[chosen], values[chosen])
    return sums
