"""The tree of modules: own figures, and those of everything below."""

from collections.abc import Iterator
from dataclasses import dataclass

from vramscope.ledger.summary import PassSummary


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


def module_tree(summary: PassSummary) -> tuple[ModuleNode, ...]:
    """Every module of a pass and every path above one, parents before children, in the model's order."""
    rows = {row.path: row for row in summary.modules}
    own = {
        path: ModuleFigures(row.parameter_bytes, row.retained_bytes, row.gradient_bytes, row.optimizer_state_bytes)
        for path, row in rows.items()
    }
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
