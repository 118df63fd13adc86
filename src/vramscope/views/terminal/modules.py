"""Modules by the activations they keep for backward; repeated layers on one line."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vramscope.ledger.summary import ModuleRow
from vramscope.views.terminal.page import Page, add_figures, ruled_table


@dataclass(frozen=True)
class ModuleLine:
    """One module, or modules whose paths differ only in numbers; bytes.

    ``inclusive_bytes`` are those of all children too, ``transient_bytes`` those of the module that has most.
    """

    path: str
    type: str
    count: int
    own_bytes: int
    inclusive_bytes: int
    transient_bytes: int
    parameter_bytes: int


@dataclass(frozen=True)
class _Extras:
    """What a table shows beside the modules' own bytes."""

    types: bool = False
    shares: bool = False
    children: bool = False
    parameters: bool = False

    def chosen(self, share: "Text | str", inclusive: "Text | str", parameters: "Text | str") -> "list[Text | str]":
        """Those of three cells that are shown."""
        shown = ((self.shares, share), (self.children, inclusive), (self.parameters, parameters))
        return [cell for is_shown, cell in shown if is_shown]


_RICH_TO_PLAIN = (
    _Extras(types=True, shares=True, children=True, parameters=True),
    _Extras(shares=True, children=True, parameters=True),
    _Extras(children=True, parameters=True),
)
_NARROWER = (_Extras(parameters=True), _Extras())


def modules(page: Page) -> Group | None:
    """Modules by what they keep for backward, or, where a pass keeps nothing, by what comes and goes in them."""
    rows = page.main.modules
    if any(row.retained_bytes for row in rows):
        return _keeping(page, module_lines(rows, grouped=not page.verbose))
    return _passing(page, module_lines(rows, grouped=False))


def _keeping(page: Page, lines: Sequence[ModuleLine]) -> Group:
    """The modules that keep most, the rest in one line, so that the columns of own bytes sum to the totals."""
    lines = sorted(lines, key=lambda line: -line.own_bytes)
    tables = [_keeping_table(page, lines, extras) for extras in _RICH_TO_PLAIN]
    narrower = [_keeping_table(page, lines, extras) for extras in _NARROWER]
    remark = "* stands for any number" if any(line.count > 1 for line in lines) else ""
    table = page.first_fitting(*tables, narrower=narrower)
    return page.section("Modules by activations kept for backward", table, remark=remark)


def _keeping_table(page: Page, lines: Sequence[ModuleLine], extras: _Extras) -> Table:
    table = _module_table(page, extras.types)
    add_figures(table, "own", *extras.chosen("share", "with children", "parameters"))
    ambiguous = {path for path, count in Counter(line.path for line in lines).items() if count > 1}
    total = sum(line.own_bytes for line in lines)

    def figures(lines: Sequence[ModuleLine], inclusive: Text) -> "list[Text | str]":
        own = sum(line.own_bytes for line in lines)
        parameters = page.size(sum(line.parameter_bytes for line in lines))
        return [page.size(own), *extras.chosen(page.share(own, total), inclusive, parameters)]

    for line in lines[: page.top]:
        names = _names(page, line, extras.types, told_apart=line.path in ambiguous)
        table.add_row(*names, *figures([line], page.size(line.inclusive_bytes)))
    rest = lines[page.top :]
    if rest:
        table.add_row(*_beginning(_others(rest), extras.types), *figures(rest, Text("")))
    table.add_section()
    parameters = page.size(sum(line.parameter_bytes for line in lines))
    sums = extras.chosen(Text(""), Text(""), parameters)
    table.add_row(*_beginning("total", extras.types), page.size(total), *sums, style="bold")
    return table


def _passing(page: Page, lines: Sequence[ModuleLine]) -> Group | None:
    lines = sorted((line for line in lines if line.transient_bytes), key=lambda line: -line.transient_bytes)
    if not lines:
        return None
    tables = [_passing_table(page, lines[: page.top], types) for types in (True, False)]
    narrower = [_passing_table(page, lines[: page.top], types=False, parameters=False)]
    remark = "own, each at its own peak: not to be added up"
    table = page.first_fitting(*tables, narrower=narrower)
    return page.section("Modules by transient activations", table, remark=remark)


def _passing_table(page: Page, lines: Sequence[ModuleLine], types: bool, parameters: bool = True) -> Table:
    table = _module_table(page, types)
    add_figures(table, "at most", *(["parameters"] if parameters else []))
    for line in lines:
        further = [page.size(line.parameter_bytes)] if parameters else []
        table.add_row(*_names(page, line, types), page.size(line.transient_bytes), *further)
    return table


def _module_table(page: Page, types: bool) -> Table:
    table = ruled_table(page, "module")
    table.add_column("", no_wrap=True)
    if types:
        table.add_column("type", overflow="fold")
    return table


def _names(page: Page, line: ModuleLine, types: bool, *, told_apart: bool = False) -> list[Text]:
    name = page.name(line.path) if line.path else page.words("(the model itself)", "italic")
    if told_apart and not types:
        name.append_text(page.name(f" {line.type}", "dim"))
    times = Text(f"x{line.count}" if line.count > 1 else "", style="cyan")
    return [name, times, *([page.name(line.type, "dim")] if types else [])]


def _beginning(first: str, types: bool) -> list[str]:
    """The left cells of a row that stands for no module."""
    return [first, *([""] * (1 + types))]


def _others(rest: Sequence[ModuleLine]) -> str:
    count = sum(line.count for line in rest)
    return f"{count} others" if count > 1 else "1 other"


def module_lines(rows: Iterable[ModuleRow], *, grouped: bool) -> list[ModuleLine]:
    """A line for every module, or for every group of modules whose paths and types differ only in numbers."""
    rows = list(rows)
    inclusive = inclusive_bytes({row.path: row.retained_bytes for row in rows})
    groups: dict[tuple[str, str], list[ModuleRow]] = {}
    for row in rows:
        groups.setdefault((pattern_of(row.path) if grouped else row.path, row.type), []).append(row)
    return [
        ModuleLine(
            path=pattern if len(members) > 1 else members[0].path,
            type=kind,
            count=len(members),
            own_bytes=sum(row.retained_bytes for row in members),
            inclusive_bytes=sum(inclusive[row.path] for row in members),
            transient_bytes=max(row.transient_peak_bytes for row in members),
            parameter_bytes=sum(row.parameter_bytes for row in members),
        )
        for (pattern, kind), members in groups.items()
    ]


def pattern_of(path: str) -> str:
    """A module's path with ``*`` for every part that is a number: ``blocks.11.norm1`` gives ``blocks.*.norm1``."""
    return ".".join("*" if part.isdecimal() else part for part in path.split("."))


def inclusive_bytes(own: Mapping[str, int]) -> dict[str, int]:
    """For every path its own figure and those of all paths below it; ``""`` is above all others."""
    sums = dict.fromkeys(own, 0)
    for path, size in own.items():
        for above in _and_above(path):
            if above in sums:
                sums[above] += size
    return sums


def _and_above(path: str) -> Iterable[str]:
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path
