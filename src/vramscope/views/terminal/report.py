"""The whole comparison, part after part."""

from rich.columns import Columns
from rich.console import Console, RenderableType

from vramscope.ledger.comparison import Comparison
from vramscope.views.terminal.failure import failures
from vramscope.views.terminal.gpu import gpus
from vramscope.views.terminal.header import header, notes, warnings
from vramscope.views.terminal.host import devices, host
from vramscope.views.terminal.kept import kept, optimizer_state
from vramscope.views.terminal.modules import modules
from vramscope.views.terminal.page import Page
from vramscope.views.terminal.peaks import moments, peaks, phases
from vramscope.views.terminal.sites import sites

_PARTS = (
    (header,),
    (warnings,),
    (failures,),
    (peaks,),
    (moments,),
    (phases, kept, optimizer_state),
    (modules,),
    (sites,),
    (gpus,),
    (host, devices),
    (notes,),
)
"""From top to bottom; small tables stand side by side as far as the width allows."""


def print_comparison(comparison: Comparison, console: Console, *, top: int = 10, verbose: bool = False) -> None:
    """Print a comparison for a person.

    Args:
        comparison: one pass or several, of one workload.
        console: where to; its width, colour and encoding are kept to.
        top: rows that long tables show before the rest is summed up.
        verbose: every figure in bytes, every category, and every module by itself.
    """
    page = Page(comparison, console, top, verbose)
    print_parts(page)
    page.print("")


def print_parts(page: Page) -> None:
    """The same without the empty line at the end, for views that go on."""
    for parts in _PARTS:
        shown: list[RenderableType] = [rendered for part in parts if (rendered := part(page)) is not None]
        if shown:
            page.print(shown[0] if len(shown) == 1 else Columns(shown, padding=(0, 5)))
