"""A progress bar on standard error while children work."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vramscope.views.console import result_console


class Steps:
    """Advances one bar by a notch for every announcement."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=total)
        self._begun = False

    def announce(self, text: str) -> None:
        """Say what is happening now; what was announced before counts as done."""
        self._progress.update(self._task, description=text, advance=1 if self._begun else 0)
        self._begun = True


@contextmanager
def progress_bar(total: int, quiet: bool) -> Iterator[Steps]:
    """A bar of ``total`` notches, gone when the work is done; ``quiet`` shows none."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = result_console(stderr=True)
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        yield Steps(progress, total)
