"""Files that are whole or not there: temporary file, fsync, rename; and the operating system's refusals in one line."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vramscope.errors import OutputError, RecordingError

TEMPORARY = ".tmp"
"""Ends the name of every file that is not finished; readers never look at one."""

_ADVICE = {
    errno.ENOENT: "create that folder first, or choose another",
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.EFBIG: "choose a folder whose file system and limits allow larger files",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.EEXIST: "choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses while ``path`` is written into an `OutputError`."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another folder")
        raise OutputError(f"{path}: cannot be written ({_reason(error)}): {advice}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of which file every refusal is, and turn the operating system's own into a `RecordingError`."""
    try:
        yield
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: a part of it vanished while it was read: read it again") from error
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be read ({_reason(error)}): check the file and its permissions"
        ) from error
    except MemoryError as error:
        raise RecordingError(f"{path}: does not fit into memory: read it on a larger machine") from error


def write_whole(target: Path, content: bytes) -> None:
    """Write ``target`` so that, whenever the process or the machine stops, it is whole or not there."""
    temporary = target.with_name(target.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    put_in_place(temporary, target)


def put_in_place(temporary: Path, target: Path) -> None:
    """Rename a synced file to its final name, for good."""
    temporary.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power failure, where the system can."""
    if os.name == "nt":  # folders cannot be opened there, and renames are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """The operating system's own words, without paths."""
    return (error.strerror or type(error).__name__).lower()
