"""Sites: the source lines that hold the memory of a moment."""

import re
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import CATEGORIES, Category, Flags
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.lineage import creators
from vramscope.recording.recording import NO_SCOPE, Integers, Recording, ScopeKind

NO_PYTHON_FRAME = "(no Python frame)"
_TORCH = re.compile(r"(?:^|/)(?:site-packages|dist-packages|pytorch)/torch/")
"""torch as installed, or as built in a checkout; a folder of the user's own may be called torch as well."""
_NATIVE_SUFFIXES = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".S")
"""Snapshots made with ``stacks="all"`` carry C++ frames too; a file name of ``??`` is one without debug information."""


@dataclass(frozen=True)
class Site:
    """What blocks of one category, made by one line, held at a moment; bytes.

    ``file`` is `NO_PYTHON_FRAME`, with line 0 and no function, for blocks whose line is not known.
    """

    file: str
    line: int
    function: str
    bytes_at_peak: int
    category: Category


def sites_of(ledger: Ledger, chosen: Flags) -> tuple[Site, ...]:
    """The chosen blocks by source line and category, the largest first.

    A block belongs to the line that ran when it was made. What a backward node makes belongs to the line of the forward
    operator that made the node, where that is known.
    """
    blocks = ledger.blocks
    alive = np.flatnonzero(chosen)
    frames = shown_frames(ledger)[blocks.birth_scope[alive]]
    sums: dict[tuple[str, int, str, Category], int] = {}
    rows = zip(frames.tolist(), ledger.category[alive].tolist(), blocks.size[alive].tolist(), strict=True)
    for frame, code, size in rows:
        key = (*_place(ledger.recording, frame), CATEGORIES[code])
        sums[key] = sums.get(key, 0) + size
    sites = [Site(file, line, function, size, category) for (file, line, function, category), size in sums.items()]
    return tuple(
        sorted(sites, key=lambda site: (-site.bytes_at_peak, site.file, site.line, site.function, site.category))
    )


def shown_frames(ledger: Ledger) -> Integers:
    """For every scope the Python frame to show for what is born in it, -1 for none; the last place is "no scope"."""
    recording, lineage = ledger.recording, ledger.lineage
    told = _telling_frames(recording)
    own = np.where(lineage.frame >= 0, told[lineage.frame], NO_SCOPE)
    creator = creators(recording)[lineage.node]
    forward = _operator_frames(recording)[creator]
    recomputed = lineage.recomputing_module | lineage.recomputing_operator  # repeats the forward line, which is running
    in_backward = (lineage.node >= 0) & ~recomputed & (forward >= 0)
    return np.where(in_backward, told[forward], own)


def place_of_frame(ledger: Ledger, frame: int) -> tuple[str, int, str]:
    """File, line and function of a frame that `shown_frames` gave; `NO_PYTHON_FRAME`, 0 and nothing for none."""
    return _place(ledger.recording, frame)


def _place(recording: Recording, frame: int) -> tuple[str, int, str]:
    """File, line and function of a frame."""
    if frame < 0:
        return NO_PYTHON_FRAME, 0, ""
    file, _, function = recording.strings[int(recording.scopes.name[frame])].rpartition("|")
    return file, int(recording.scopes.value[frame]), function


def _operator_frames(recording: Recording) -> Integers:
    """For every operator the first frame below it; -1 where nothing tells its line; the last place is "no scope"."""
    scopes = recording.scopes
    found = np.full(len(scopes) + 1, NO_SCOPE, dtype=np.int64)
    rows = np.flatnonzero(scopes.kind == ScopeKind.PYTHON_FRAME)
    parents, kinds = scopes.parent.tolist(), scopes.kind.tolist()
    for row in rows[np.argsort(scopes.start_ns[rows], kind="stable")].tolist():
        above = parents[row]
        while above >= 0 and kinds[above] == ScopeKind.PYTHON_FRAME:
            above = parents[above]
        while above >= 0 and kinds[above] == ScopeKind.OPERATOR and found[above] < 0:
            found[above] = row
            above = parents[above]
    return found


def _telling_frames(recording: Recording) -> Integers:
    """For every frame the one among it and its callers that tells most, by `_rank`; -1 where all are torch's.

    A frame's parent, where that is a frame too, is its caller.
    """
    scopes = recording.scopes
    best = np.full(len(scopes) + 1, NO_SCOPE, dtype=np.int64)
    ranks = np.array([_rank(text.rpartition("|")[0]) for text in recording.strings] or [0], dtype=np.int64)
    rank = np.append(ranks[scopes.name], 0)
    for row in np.flatnonzero(scopes.kind == ScopeKind.PYTHON_FRAME).tolist():  # callers stand before what they call
        caller = best[scopes.parent[row]]
        best[row] = row if rank[row] and rank[row] >= rank[caller] else caller
    return best


def _rank(file: str) -> int:
    """2 for the user's own code, 1 for a library's, 0 for torch's and Python's own."""
    path = file.replace("\\", "/")
    if path.startswith(("<", "?")) or path.endswith(_NATIVE_SUFFIXES) or _TORCH.search(path):
        return 0
    if "site-packages/" in path or "dist-packages/" in path:
        return 1
    return 0 if "/lib/python3" in path else 2
