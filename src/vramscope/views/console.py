"""The consoles that commands and callbacks print to."""

from typing import Any

from rich.console import Console

_NARROWEST = 40
"""Columns below which no table of sizes can be read; a terminal that claims less breaks the lines itself."""


class ResultConsole(Console):
    """A console whose reader may leave early, which changes no exit code: rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        """Print no more; the command goes on."""
        self.quiet = True


def result_console(**options: Any) -> Console:
    """A console as wide as the terminal, but never too narrow for a table.

    Args:
        **options: of rich's Console, such as ``stderr``.
    """
    console = ResultConsole(**options)
    return console if console.width >= _NARROWEST else ResultConsole(**options, width=_NARROWEST)
