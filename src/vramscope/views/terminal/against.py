"""A prediction beside a measurement on a console."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vramscope.ledger.against import Against, Allocation, Figure, Parting, Place
from vramscope.names import visible
from vramscope.units import format_size
from vramscope.views.layout import Trimmed, first_fitting
from vramscope.views.text import Scale, category_label

_RICH_TO_PLAIN = (
    ("predicted", "measured", "difference", "error"),
    ("predicted", "measured", "error"),
    ("predicted", "measured"),
    ("difference",),
)
"""Which figures are shown, all of them where there is room."""


def print_against(name: str, against: Against, console: Console) -> None:
    """Print one pass and an empty line: totals, categories, and the first allocation where the two part."""
    for part in _parts(name, against, console):
        console.print(Trimmed(part), highlight=False)


def _parts(name: str, against: Against, console: Console) -> Iterator[RenderableType]:
    yield Text(f"{name}: prediction beside measurement", style="bold cyan")
    yield _table(against, console)
    predicted, measured = against.peaks_at
    if against.categories_known and predicted != measured:
        words = f"each side's own peak: predicted {_place_words(predicted)}, measured {_place_words(measured)}"
        yield Text(visible(words, console.encoding))
    if not against.categories_known:
        yield Text("a snapshot does not say what its blocks are for: only its library workspaces are told apart")
    yield Text(_sequence_words(against))
    if against.parting is not None:
        yield Text(visible(parting_words(against.parting), console.encoding))
    yield Text("")


def _table(against: Against, console: Console) -> Table:
    full, *narrower = (_with_figures(against, console, figures) for figures in _RICH_TO_PLAIN)
    return first_fitting(console, [full], narrower)


def _with_figures(against: Against, console: Console, figures: Sequence[str]) -> Table:
    scale = Scale.fitting(max(against.peak.predicted_bytes, against.peak.measured_bytes))
    utf = console.encoding.lower().startswith("utf")
    table = Table(box=box.SIMPLE_HEAD if utf else box.ASCII2, show_edge=False, pad_edge=False)
    table.add_column("at the peak")
    for header in figures:
        table.add_column(header, justify="right", no_wrap=True)

    def add(name: str, figure: Figure, style: str = "") -> None:
        cells = _cells(figure, scale)
        table.add_row(name, *(cells[header] for header in figures), style=style)

    for category, figure in against.by_category.items():
        if figure.predicted_bytes or figure.measured_bytes:
            add(category_label(category), figure)
    table.add_section()
    add("total", against.peak, "bold")
    if against.reserved is not None:
        add("reserved", against.reserved)
    return table


def _place_words(place: Place) -> str:
    parts = (place.phase, place.module, place.operator)
    return f"in {' · '.join(filter(None, parts))}" if any(parts) else "outside every phase"


def _cells(figure: Figure, scale: Scale) -> dict[str, str]:
    error = figure.error
    return {
        "predicted": scale.text(figure.predicted_bytes),
        "measured": scale.text(figure.measured_bytes),
        "difference": scale.change(figure.difference_bytes),
        "error": "" if error is None else f"{error:+.3%}",
    }


def _sequence_words(against: Against) -> str:
    predicted, measured = against.allocations
    counts = f"{predicted:,} allocations predicted, {measured:,} measured"
    scratch = "; scratch inside operators is left out here" if against.categories_known else ""
    if against.parting is None:
        return f"{counts}: all of the same size, in the same order{scratch}"
    if against.matching is None:
        return counts + scratch
    return f"{counts}: {against.matching:.3%} in the same order on both sides{scratch}"


def parting_words(parting: Parting) -> str:
    """The first allocation that differs, in words."""
    sides = f"predicted {_allocation_words(parting.predicted)}, measured {_allocation_words(parting.measured)}"
    return f"first at allocation {parting.index:,}: {sides}"


def _allocation_words(allocation: Allocation | None) -> str:
    if allocation is None:
        return "no further one"
    operator = f" by {allocation.operator}" if allocation.operator else ""
    module = f" in {allocation.module}" if allocation.module else ""
    return f"{format_size(allocation.bytes)} ({allocation.bytes:,} B) of {category_label(allocation.category)}" + (
        operator + module
    )
