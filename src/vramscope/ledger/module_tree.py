"""The tree of modules: own figures, and those of everything below."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import PassSummary, steady_window


@dataclass(frozen=True)
class ModuleFigures:
    """Bytes of a module; also the sum of several."""

    parameter_bytes: int = 0
    retained_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_state_bytes: int = 0

    def __add__(self, other: "ModuleFigures") -> "ModuleFigures":
        return ModuleFigures(
            self.parameter_bytes + other.parameter_bytes,
            self.retained_bytes + other.retained_bytes,
            self.gradient_bytes + other.gradient_bytes,
            self.optimizer_state_bytes + other.optimizer_state_bytes,
        )


@dataclass(frozen=True)
class ModuleNode:
    """A module with its parent's path (None for the root), its own figures and those with everything below it."""

    path: str
    parent: str | None
    type: str
    own: ModuleFigures
    inclusive: ModuleFigures
    transient_peak_bytes: int


def module_tree(ledger: Ledger, summary: PassSummary) -> tuple[ModuleNode, ...]:
    """Every module of a pass and every path above one, parents before children, in the model's order."""
    state = state_by_module(ledger)
    rows = {row.path: row for row in summary.modules}
    own = {
        path: ModuleFigures(row.parameter_bytes, row.retained_bytes, row.gradient_bytes, state.get(path, 0))
        for path, row in rows.items()
    }
    own |= {path: ModuleFigures(optimizer_state_bytes=size) for path, size in state.items() if path not in own}
    paths = {above: None for path in own for above in reversed([path, *paths_above(path)])}
    inclusive = dict.fromkeys(paths, ModuleFigures())
    for path, figures in own.items():
        for above in (path, *paths_above(path)):
            inclusive[above] += figures
    return tuple(
        ModuleNode(
            path=path,
            parent=next(paths_above(path), None),
            type=rows[path].type if path in rows else "",
            own=own.get(path, ModuleFigures()),
            inclusive=inclusive[path],
            transient_peak_bytes=rows[path].transient_peak_bytes if path in rows else 0,
        )
        for path in paths
    )


def paths_above(path: str) -> Iterator[str]:
    """The paths above one, the nearest first; the root ``""`` is above all others."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def state_by_module(ledger: Ledger) -> Mapping[str, int]:
    """Bytes of optimizer state at the end of the steady steps by the module that has the parameter."""
    alive = ledger.blocks.alive_after(steady_window(ledger).last - 1) & (ledger.blocks.device == 0)
    chosen = alive & ledger.is_category(Category.OPTIMIZER_STATE)
    sums = np.zeros(len(ledger.module_paths), dtype=np.int64)
    np.add.at(sums, ledger.module[chosen], ledger.blocks.size[chosen])
    return {ledger.module_paths[number]: int(sums[number]) for number in np.flatnonzero(sums).tolist()}
