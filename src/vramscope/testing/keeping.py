"""The recordings of `--vramscope-report`: one file for each test, in a folder beside the index page."""

import hashlib
import re
from pathlib import Path

from vramscope.errors import OutputError
from vramscope.recording.file import write_recording
from vramscope.recording.recording import Recording

_FOLDER = "recordings"
_LONGEST_NAME = 80


def keep_recording(name: str, recording: Recording, folder: Path) -> str:
    """Write a test's recording; gives its place within the report's folder.

    Raises:
        OutputError: it cannot be written.
    """
    place = f"{_FOLDER}/{file_name(name)}"
    try:
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder / _FOLDER}: {error.strerror}") from error
    write_recording(recording, folder / place)
    return place


def file_name(name: str) -> str:
    """A file name that any system takes, and that no other test's name gives."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[-_LONGEST_NAME:]
    return f"{readable}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}.vram"
