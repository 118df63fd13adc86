"""Python stacks of a history as scopes: each allocation's own frames, below the operator that made it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vramscope.allocator.snapshot.model import Frame, Stacks
from vramscope.recorders.lines import rank_of
from vramscope.recording.recording import UNKNOWN, Integers, Recording, ScopeKind, Scopes

_MOST_FRAMES = 16


def with_stacks(recording: Recording, stack: Integers, stacks: Stacks) -> Recording:
    """The recording with frames as the innermost scopes of its events.

    Args:
        recording: without frames of its own.
        stack: [events] the number of each event's stack, 0 for none.
        stacks: what the numbers mean.
    """
    events, scopes = recording.events, recording.scopes
    chains = [telling_frames([stacks.frames[number] for number in entry.frames]) for entry in stacks.stacks]
    strings = {text: number for number, text in enumerate(recording.strings)}
    rows: list[tuple[int, ...]] = []
    known: dict[tuple[int, Frame], int] = {}
    owner = events.scope.copy()
    for row in np.flatnonzero(stack).tolist():
        scope, moment = int(events.scope[row]), int(events.time_ns[row])
        for frame in reversed(chains[int(stack[row])]):
            key = (scope, frame)
            if key not in known:
                known[key] = len(scopes) + len(rows)
                name = strings.setdefault(f"{frame.file}|{frame.function}", len(strings))
                rows.append((scope, ScopeKind.PYTHON_FRAME, name, moment, moment, 0, UNKNOWN, frame.line))
            scope = known[key]
        owner[row] = scope
    tables = Scopes.concatenate([scopes, Scopes.from_rows(rows)])
    return replace(recording, scopes=tables, strings=tuple(strings), events=replace(events, scope=owner))


def telling_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames of a stack that tell a user something, innermost first: their own code's, else other libraries'."""
    ranks = [rank_of(frame.file) for frame in frames]
    best = max(ranks, default=0)
    telling = [frame for frame, rank in zip(frames, ranks, strict=True) if rank == best and rank]
    return telling[:_MOST_FRAMES]
