"""Results on their way out: each is tried, so that one that cannot be written costs nothing but itself."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vramscope.cli.output import make_folder, write_text
from vramscope.errors import OutputError

Writer = Callable[[Path], object]
"""Writes one file, whole or not at all."""


class Results:
    """The files of a command. What was measured took long: where one fails the others, and the tables, still come."""

    def __init__(self) -> None:
        self._kept: list[Path] = []
        self._missing: list[Path] = []
        self._failure: OutputError | None = None

    def write(self, path: Path, writer: Writer) -> None:
        """Write a file; a failure is kept for `check`."""
        try:
            writer(path)
        except OutputError as error:
            self._failure = self._failure or error
            self._missing.append(path)
        else:
            self._kept.append(path)

    def write_folder(self, folder: Path | None, writers: Mapping[str, Writer]) -> None:
        """Write files by name into a folder, if one was asked for; it is made."""
        if folder is None:
            return
        try:
            make_folder(folder)
        except OutputError as error:
            self._failure = self._failure or error
            return
        for name, writer in writers.items():
            self.write(folder / name, writer)

    def write_json(self, path: str | None, text: str) -> None:
        """Write what ``--json`` asks for, if it was given; what standard output refuses ends the command."""
        if path == "-":
            write_text(path, text)
        elif path is not None:
            self.write(Path(path), text_writer(text))

    def check(self) -> None:
        """Fail if anything could not be written, once all else is out.

        Raises:
            OutputError: the first failure; which further files are missing, and which were kept.
        """
        if self._failure is None:
            return
        further = f"; missing too: {_names(self._missing[1:])}" if self._missing[1:] else ""
        kept = f"; kept: {_names(self._kept)}" if self._kept else ""
        raise OutputError(f"{self._failure}{further}{kept}") from self._failure


def text_writer(text: str) -> Writer:
    """Writes a text."""
    return lambda path: write_text(str(path), text)


def _names(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))
