"""A diff on a console: what changed, what it is made of, and whether the limits hold."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.ledger.diff import Change, Diff, Kind, PassDiff
from vramscope.names import visible
from vramscope.views.layout import Trimmed, first_fitting
from vramscope.views.text import Scale
from vramscope.views.verdicts import path_words, percent_words, verdict_words

_TITLES = {
    Kind.PHASE: "Peak of each phase",
    Kind.ACTIVATIONS: "Activations",
    Kind.MODULE: "Modules, each at its own fullest moment, children excluded",
    Kind.OPERATOR: "Operators, each at its own fullest moment",
}
_FIGURES = ("before", "after", "change", "")
"""Headers; the last is of the change in percent."""
_RICH_TO_PLAIN = ((0, 1, 2, 3), (0, 1, 2), (2,))
"""Which figures have columns of their own, the first where there is room for all."""


def print_diff(diff: Diff, console: Console, *, top: int = 10) -> None:
    """Print a diff for a person.

    Args:
        diff: what changed.
        console: where to; its width, colour and encoding are kept to.
        top: rows that long tables show before the rest is counted.
    """
    for part in _parts(diff, console, top):
        console.print(Trimmed(part), highlight=False)


def _parts(diff: Diff, console: Console, top: int) -> Iterator[RenderableType]:
    for line in diff.warnings:
        yield _words(console, f"WARNING: {line}", "bold red")
    for name, old, new in diff.differences:
        yield _words(console, f"not alike: {name.replace('_', ' ')} {old} before, {new} after", "yellow")
    for part in diff.passes:
        yield from _pass_parts(part, console, top)
    if diff.verdicts:
        yield Text("")
    for verdict in diff.verdicts:
        failed = verdict.is_regression
        sign = "REGRESSION " if failed else "within the limit: "
        yield _words(console, sign + verdict_words(verdict), "bold red" if failed else "green")


def _pass_parts(part: PassDiff, console: Console, top: int) -> Iterator[RenderableType]:
    peak = part.of(Kind.PEAK)[0]
    scale = Scale.fitting(max(peak.before_bytes, peak.after_bytes))
    yield Group(Text(""), _headline(part, peak, scale, console), Text(""))
    yield _at_the_peak(part, peak, scale, console)
    for kind, title in _TITLES.items():
        changed = part.changed(kind)
        if changed:
            yield Group(Text(""), Text(title, style="bold cyan"), _table(changed[:top], scale, console))
            if changed[top:]:
                yield Text(f"{len(changed) - top} more changed by less", style="dim")


def _headline(part: PassDiff, peak: Change, scale: Scale, console: Console) -> Text:
    head = _words(console, part.name, "bold cyan")
    if not any(change.growth_bytes for change in part.changes):
        return head.append(": nothing changed", style="bold")
    moved = percent_words(peak.before_bytes, peak.after_bytes) or "unchanged"
    return head.append(f": peak {scale.text(peak.before_bytes)} to {scale.text(peak.after_bytes)} ({moved})", "bold")


def _at_the_peak(part: PassDiff, peak: Change, scale: Scale, console: Console) -> Table:
    """The categories at the two peaks; they sum to them."""
    rows = [change for change in part.of(Kind.CATEGORY) if change.before_bytes or change.after_bytes]
    return _table(rows, scale, console, peak)


def _table(rows: Sequence[Change], scale: Scale, console: Console, total: Change | None = None) -> Table:
    """A row for each change and, below a line, their total; as many columns as there is room for."""
    lines = [_cells(_name(change), change, scale, console) for change in rows]
    sums = [] if total is None else [_cells("total at the peak", total, scale, console)]
    tables = [_with_figures(lines, sums, figures, console) for figures in _RICH_TO_PLAIN]
    return first_fitting(console, [tables[0]], narrower=tables[1:])


def _with_figures(
    lines: Sequence[Sequence[Text]], sums: Sequence[Sequence[Text]], figures: Sequence[int], console: Console
) -> Table:
    """The two sizes stand below the name where they have no columns."""
    table = Table(
        box=box.SIMPLE_HEAD if console.encoding.lower().startswith("utf") else box.ASCII2,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    for figure in figures:
        table.add_column(_FIGURES[figure], justify="right", no_wrap=True, header_style="dim")

    def add(line: Sequence[Text], style: str = "") -> None:
        name, before, after, *_ = line
        if figures[0] != 0:
            moved = [Text.assemble("  ", before), *([Text.assemble("  to ", after)] if before != after else [])]
            name = Text("\n").join([name, *moved])
        table.add_row(name, *(line[1 + figure] for figure in figures), style=style)

    for line in lines:
        add(line)
    table.add_section()
    for line in sums:
        add(line, "bold")
    return table


def _name(change: Change) -> str:
    if change.kind == Kind.MODULE:
        return path_words(change.name)
    return change.name if change.kind == Kind.OPERATOR else change.name.replace("_", " ")


def _cells(name: str, change: Change, scale: Scale, console: Console) -> list[Text]:
    scale = scale.for_row(change.before_bytes, change.after_bytes)
    colour = "" if not change.growth_bytes else "red" if change.growth_bytes > 0 else "green"
    return [
        _words(console, name),
        Text(scale.text(change.before_bytes)),
        Text(scale.text(change.after_bytes)),
        Text(scale.change(change.growth_bytes), style=colour or "dim"),
        Text(percent_words(change.before_bytes, change.after_bytes), style=colour),
    ]


def _words(console: Console, text: str, style: str = "") -> Text:
    return Text(visible(text, console.encoding) if len(text) <= 200 else _long(text, console), style=style)


def _long(text: str, console: Console) -> str:
    """Our own sentences may be longer than a name: made visible piece by piece."""
    return "".join(visible(text[start : start + 100], console.encoding) for start in range(0, len(text), 100))
