"""Whether results can be written to a place, asked before any work is done for them; nothing is made yet."""

import os
import tempfile
from pathlib import Path

from vramscope.errors import OutputError


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder that could not be made or written to later.

    Args:
        path: the folder.
        option: by which to name another one.

    Raises:
        OutputError: it, or the nearest folder above it that exists, is no folder or not writable.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to the folder {path}: {error.strerror}; give another with {option}") from error


def check_file(path: str) -> None:
    """Refuse a file that could not be written later; ``-`` is standard output.

    Raises:
        OutputError: its folder is missing or not writable.
    """
    if path == "-":
        return
    folder = Path(path).resolve().parent
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        return  # a device or a pipe
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: {folder} must be an existing folder that you may write to")
