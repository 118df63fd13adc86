"""The largest blocks of a moment with what made them: operator, module, and the Python lines down to it."""

from dataclasses import dataclass

import numpy as np

from vramscope.ledger.largest import NO_BLOCK, BlockFacts, describe_block, largest_alive
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.sites import NO_PYTHON_FRAME, place_of_frame, shown_frames
from vramscope.recording.recording import NO_SCOPE, ScopeKind


@dataclass(frozen=True)
class Line:
    """A Python line that was running."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class HeldBlock:
    """One block and the lines that led to it, the innermost first; none where no line is known."""

    facts: BlockFacts
    stack: tuple[Line, ...]


def held_blocks(ledger: Ledger, event: int, count: int, device: int = 0) -> tuple[HeldBlock, ...]:
    """The largest blocks alive just after an event, the largest first.

    A stack has the callers that the allocator's history knows; where lines were traced it has the one that ran.
    """
    found = largest_alive(ledger, np.array([event], dtype=np.int64), count, device)[0]
    frames = shown_frames(ledger)
    return tuple(
        HeldBlock(describe_block(ledger, block), _stack(ledger, int(frames[ledger.blocks.birth_scope[block]])))
        for block in found[found != NO_BLOCK].tolist()
    )


def _stack(ledger: Ledger, frame: int) -> tuple[Line, ...]:
    """A frame and its callers."""
    scopes, lines = ledger.recording.scopes, []
    while frame != NO_SCOPE and scopes.kind[frame] == ScopeKind.PYTHON_FRAME:
        file, line, function = place_of_frame(ledger, frame)
        lines.append(Line(file, line, function))
        frame = int(scopes.parent[frame])
    return tuple(line for line in lines if line.file != NO_PYTHON_FRAME)
