"""Whether results can be written to a place, asked before any work is done for them; nothing is made yet."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vramscope.errors import OutputError
from vramscope.views.atomic import own_descriptor

RECORDING = ".vram"
_UNSEALED = ".part"
_FIGURES = ("compare.json", "estimate.json", "snapshot.json", "run.json", "run.rank*.json")
"""What commands write into a folder beside the recordings."""


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


def figures_beside(*recordings: Path) -> tuple[Path, ...]:
    """The figures that commands have left beside recordings, each a file or a folder of several."""
    folders = {path if path.is_dir() and not path.name.endswith(_UNSEALED) else path.parent for path in recordings}
    return tuple(file for folder in folders for pattern in _FIGURES for file in folder.glob(pattern))


def check_file(path: str, *sources: Path, figures: Sequence[Path] = ()) -> None:
    """Refuse a file that could not be written later, or that holds what no run gives again; ``-`` is standard output.

    Args:
        path: the file.
        *sources: what it is made from, which it must not take the place of.
        figures: those of recordings, which it must not take the place of either.

    Raises:
        OutputError: it is a folder or a recording, or its folder is missing or not writable.
    """
    if path == "-":
        return
    file = Path(path)
    reason = (
        "it has no name" if not path else "it is a folder" if file.is_dir() else _worth_keeping(file, sources, figures)
    )
    if reason is not None:
        raise OutputError(f"cannot write {path!r}: {reason}; name another file")
    if own_descriptor(file) is not None or (file.exists() and not file.is_file()):
        return  # an open file of ours, a device or a pipe: nothing is made in their folder
    folder = file.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: {folder} must be an existing folder that you may write to")


def _worth_keeping(file: Path, sources: Sequence[Path], figures: Sequence[Path]) -> str | None:
    """Why a file must stay, None where it need not."""
    if not file.is_file():
        return None
    if _is_among(file, sources):
        return "it would take the place of what it is made from"
    if _is_among(file, figures):
        return "it would take the place of the figures of a recording beside it"
    return "it is a recording" if file.suffix == RECORDING else None


def _is_among(file: Path, others: Sequence[Path]) -> bool:
    return any(other.exists() and other.samefile(file) for other in others)
