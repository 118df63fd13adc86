"""A progress bar on standard error while children work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vramscope.cli.output import drop
from vramscope.views.console import result_console


class _Unheard:
    """Standard error for a bar that nobody need see: where the terminal has gone, the work goes on or ends in order."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream does, or nowhere."""
        try:
            return self._stream.write(text)
        except OSError:
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        """Likewise."""
        try:
            self._stream.flush()
        except OSError:
            drop(self._stream)


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
    if not disable:
        console.file = cast(IO[str], _Unheard(console.file))
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        yield Steps(progress, total)
