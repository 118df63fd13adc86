"""What grows from step to step: blocks of the same origin that every step leaves behind."""

from dataclasses import dataclass, field

import numpy as np

from vramscope.ledger.categories import CATEGORIES, Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.sites import place_of_frame, shown_frames
from vramscope.recording.recording import Integers

_LEAST_STEPS = 3
"""Of these the last says nothing yet: what it leaves behind may be dropped by the next one, as gradients are."""


@dataclass(frozen=True)
class Origin:
    """Where blocks come from; ``line`` is 0 where lines were not recorded."""

    category: Category
    module: str
    operator: str
    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Growth:
    """Blocks of one origin that every step of a window left behind; bytes per step."""

    origin: Origin
    bytes_per_step: int
    blocks_per_step: float
    steps: int


@dataclass
class GrowthSum:
    """Adds up what grows over several windows; an origin with a known line stands for the same one without."""

    found: dict[Origin, tuple[int, int, int]] = field(default_factory=dict)
    """Bytes, blocks and steps by origin."""

    def add(self, ledger: Ledger) -> None:
        """Take in what grows over the steps of a ledger."""
        for origin, (size, blocks, steps) in growing(ledger).items():
            before = self.found.get(origin, (0, 0, 0))
            self.found[origin] = before[0] + size, before[1] + blocks, before[2] + steps

    def rows(self) -> tuple[Growth, ...]:
        """What grows, the most first; where lines are known for an origin, only those."""
        known = {_without_line(origin) for origin in self.found if origin.line}
        shown = {o: sums for o, sums in self.found.items() if o.line or _without_line(o) not in known}
        rows = [Growth(o, size // steps, blocks / steps, steps) for o, (size, blocks, steps) in shown.items()]
        return tuple(sorted(rows, key=lambda row: -row.bytes_per_step))


def growing(ledger: Ledger) -> dict[Origin, tuple[int, int, int]]:
    """Bytes, blocks and steps of every origin of which each step but the last left blocks behind for good."""
    steps = ledger.steps
    if len(steps) < _LEAST_STEPS:
        return {}
    bounds = np.array([step.first for step in steps] + [steps[-1].last], dtype=np.int64)
    end = steps[-1].last
    alive = (ledger.blocks.birth >= bounds[0]) & (ledger.blocks.birth < bounds[-2]) & (ledger.blocks.death >= end)
    rows = np.flatnonzero(alive)
    step = np.searchsorted(bounds, ledger.blocks.birth[rows], side="right")
    left: dict[Origin, list[tuple[int, int]]] = {}
    for row, origin, number in zip(rows.tolist(), _origins(ledger, rows), step.tolist(), strict=True):
        left.setdefault(origin, []).append((number, int(ledger.blocks.size[row])))
    wanted = len(steps) - 1
    return {
        origin: (sum(size for _, size in found), len(found), wanted)
        for origin, found in left.items()
        if len({number for number, _ in found}) == wanted
    }


def _origins(ledger: Ledger, rows: Integers) -> list[Origin]:
    scopes = ledger.blocks.birth_scope[rows]
    frames = shown_frames(ledger)[scopes].tolist()
    lineage = ledger.lineage
    nodes = np.where(lineage.node >= 0, lineage.node, lineage.graph)[scopes].tolist()
    operators = lineage.operator[scopes].tolist()
    modules, categories = ledger.module[rows].tolist(), ledger.category[rows].tolist()
    strings, names = ledger.recording.strings, ledger.recording.scopes.name
    found = []
    for frame, operator, node, module, code in zip(frames, operators, nodes, modules, categories, strict=True):
        what = operator if operator >= 0 else node
        name = strings[int(names[what])] if what >= 0 else ""
        found.append(Origin(CATEGORIES[code], ledger.module_paths[module], name, *place_of_frame(ledger, frame)))
    return found


def _without_line(origin: Origin) -> tuple[Category, str, str]:
    return origin.category, origin.module, origin.operator
