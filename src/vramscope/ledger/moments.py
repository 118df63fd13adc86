"""Where moments that are no events fall: into which steps, and into which named scope."""

import numpy as np

from vramscope.ledger.blocks import Flags
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import Integers, Recording, ScopeKind


def inside_steps(ledger: Ledger, starts: Integers, ends: Integers, first: int, last: int) -> Flags:
    """Which stretches of time lie between the first and the last step of a window of events."""
    scopes, times = ledger.recording.scopes, ledger.recording.events.time_ns
    steps = scopes.take(scopes.kind == ScopeKind.STEP)
    # a step may hold no event at all, so that its rows say nothing: it counts by where it lies
    chosen = (np.searchsorted(times, steps.start_ns, side="left") >= first) & (
        np.searchsorted(times, steps.end_ns, side="right") <= last
    )
    if not np.any(chosen):
        return np.zeros(len(starts), dtype=np.bool_)
    inside: Flags = (starts >= steps.start_ns[chosen].min()) & (ends <= steps.end_ns[chosen].max())
    return inside


def innermost(recording: Recording, kind: ScopeKind, start_ns: int, end_ns: int) -> str | None:
    """The name of the innermost scope of a kind around a stretch of time."""
    scopes = recording.scopes
    rows = np.flatnonzero((scopes.kind == kind) & (scopes.start_ns <= start_ns) & (scopes.end_ns >= end_ns))
    if not len(rows):
        return None
    inner = rows[np.lexsort((rows, -scopes.end_ns[rows], scopes.start_ns[rows]))[-1]]
    return recording.strings[int(scopes.name[inner])]
