"""The consoles that commands print to."""

from typing import Any

from rich.console import Console

_NARROWEST = 40
"""Columns below which no table of sizes can be read; a terminal that claims less breaks the lines itself."""


def result_console(**options: Any) -> Console:
    """A console as wide as the terminal, but never too narrow for a table.

    Args:
        **options: of rich's Console, such as ``stderr``.
    """
    console = Console(**options)
    return console if console.width >= _NARROWEST else Console(**options, width=_NARROWEST)
