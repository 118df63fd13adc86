"""The folder that a recording is while it is being made: one writer at a time, and readers at any time."""

import contextlib
import os
import re
from pathlib import Path

from vramscope.errors import OutputError, RecordingError
from vramscope.recording.durable import TEMPORARY
from vramscope.recording.header import META

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing keeps a second writer out
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".part"
SEALED = "sealed"
_OURS = re.compile(rf"({re.escape(META)}|part-\d{{5,9}}\.(npz|json)|{SEALED})({re.escape(TEMPORARY)})?")


def folder_of(path: Path) -> Path:
    """Where the recording that will be ``path``, or what it links to, is while it is being made."""
    target = Path(os.path.realpath(path))
    return target.with_name(target.name + SUFFIX)


class Folder:
    """The members of an unsealed recording."""

    def __init__(self, path: Path) -> None:
        """See the members in this folder."""
        self._path = path

    def names(self) -> list[str]:
        """The names of all finished members."""
        return sorted(entry.name for entry in self._path.iterdir() if not entry.name.endswith(TEMPORARY))

    def read(self, name: str) -> bytes:
        """A member's content.

        Raises:
            RecordingError: it is missing.
        """
        file = self._path / name
        if not file.is_file():  # opening a pipe would wait for ever
            raise RecordingError(f"its {name} is missing")
        return file.read_bytes()


class Claim:
    """A recording's folder, made and held by one writer: another writer is refused until this one lets go or dies."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, or take over the one that a crashed recording left, which stays until `clear`.

        Raises:
            OutputError: another writer holds it, or it has files that are not ours.
        """
        self.folder = folder
        self._descriptor = _make_and_lock(folder)
        try:
            self._require_ours()
        except BaseException:
            self._unlock()
            raise

    def clear(self) -> None:
        """Clear away what vramscope put there, the first member first, so that no torso can be read."""
        for file in self._files():
            if _OURS.fullmatch(file.name):
                file.unlink()

    def release(self) -> None:
        """Let go of the folder as it is; nothing stays where there was nothing."""
        try:
            with contextlib.suppress(OSError):  # it holds what a crashed recording left
                self.folder.rmdir()
        finally:
            self._unlock()

    def remove(self) -> None:
        """Remove the folder and what vramscope put into it; with anything else in it, it stays."""
        try:
            self.clear()
            self.folder.rmdir()
        finally:
            self._unlock()

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir(), key=lambda entry: entry.name != META)

    def _require_ours(self) -> None:
        """Refuse a folder with anything in it that is not ours to remove, such as a folder in a member's place."""
        foreign = [file.name for file in self._files() if not _OURS.fullmatch(file.name) or file.is_dir()]
        if foreign:
            raise OutputError(
                f"{self.folder}: holds {foreign[0]}, which is not vramscope's: choose another output name"
            )

    def _unlock(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # explicitly: forked workers hold copies of the descriptor
            os.close(descriptor)


def _make_and_lock(folder: Path) -> int | None:
    """Make a folder and lock it; again where another writer removes it between the two."""
    while True:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return _lock(folder)


def _lock(folder: Path) -> int | None:
    """Lock a folder for this process, so that the lock goes when the process does; nothing where there are no locks.

    Raises:
        FileNotFoundError: the folder was removed, or removed and made anew.
        OutputError: another writer holds it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        raise FileNotFoundError(folder)
    except BlockingIOError:
        os.close(descriptor)
        raise OutputError(f"{folder}: another vramscope is recording into it: choose another output name") from None
    except FileNotFoundError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
