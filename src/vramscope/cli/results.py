"""Results on their way out: each is tried, so that one that cannot be written costs nothing but itself."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vramscope.cli.output import make_folder, write_text
from vramscope.errors import OutputError

if TYPE_CHECKING:
    from vramscope.recording.recording import Recording

Writer = Callable[[Path], object]
"""Writes one file, whole or not at all."""


class Results:
    """The files of a command. What was measured took long: where one fails the others, and the tables, still come."""

    def __init__(self) -> None:
        self._kept: list[Path] = []
        self._missing: list[Path] = []
        self._failure: OutputError | None = None
        self._untouched: Path | None = None

    def write(self, path: Path, writer: Writer) -> None:
        """Write a file; a failure is kept for `check`."""
        self._try([path], lambda: writer(path))

    def write_folder(self, folder: Path | None, writers: Mapping[str, Writer]) -> None:
        """Write files by name into a folder, if one was asked for; it is made."""
        if folder is not None and self._try([], lambda: make_folder(folder)):
            for name, writer in writers.items():
                self.write(folder / name, writer)

    def write_comparison(
        self, folder: Path | None, passes: "Mapping[str, Recording]", writers: Mapping[str, Writer]
    ) -> None:
        """Write the recordings of passes into a folder, if one was asked for, and then files that tell of them.

        What lies in a folder is read together. Where one of the recordings cannot be written, an older comparison there
        stays as it is; where all are, no pass of it stays beside them.
        """
        from vramscope.recording.collection import PASSES  # numpy takes long to load, and --help needs none
        from vramscope.recording.file import write_recordings

        if folder is None or not self._try([], lambda: make_folder(folder)):
            return
        recordings = {folder / f"{name}.vram": recording for name, recording in passes.items()}
        stale = [path for name in PASSES if name not in passes and (path := folder / f"{name}.vram").exists()]
        is_older = any(path.exists() for path in (*recordings, *stale, *(folder / name for name in writers)))
        if self._try(list(recordings), lambda: write_recordings(recordings)):
            for path in stale:
                self._try([], partial(_remove, path))
        elif is_older:
            self._untouched = folder
            self._missing += [folder / name for name in writers]
            return
        self.write_folder(folder, writers)

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
        unsaid = [path for path in self._missing if str(path) not in str(self._failure)]
        further = f"; missing too: {_names(unsaid)}" if unsaid else ""
        older = f"; what was in {self._untouched} before stays as it was" if self._untouched is not None else ""
        kept = f"; kept: {_names(self._kept)}" if self._kept else ""
        raise OutputError(f"{self._failure}{further}{older}{kept}") from self._failure

    def _try(self, paths: list[Path], action: Callable[[], object]) -> bool:
        """Do what writes these files; whether it could be done."""
        try:
            action()
        except OutputError as error:
            self._failure = self._failure or error
            self._missing += paths
            return False
        self._kept += paths
        return True


def text_writer(text: str) -> Writer:
    """Writes a text."""
    return lambda path: write_text(str(path), text)


def _remove(path: Path) -> None:
    """Remove a pass of an older comparison, which would be read together with the new ones."""
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"cannot remove {path}, of an older comparison: {error.strerror}; remove it") from error


def _names(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))
