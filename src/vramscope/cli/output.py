"""Where results go: standard output, a JSON file, a folder."""

import os
import sys
import tempfile
from pathlib import Path

import click

from vramscope.errors import OutputError
from vramscope.views.atomic import atomic_path


def check_folder(path: Path) -> None:
    """Refuse a folder that could not be made or written to later; nothing is made yet.

    Raises:
        OutputError: it, or the nearest folder above it that exists, is no folder or not writable.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to the folder {path}: {error.strerror}; give another with --out") from error


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; give another with --out") from error


def prepare_outputs(folder: Path | None, json_path: str | None) -> None:
    """Refuse places that could not be written to, before any work is done for them.

    Raises:
        OutputError: the folder or the JSON file cannot be written.
    """
    if folder is not None:
        check_folder(folder)
    if json_path is not None:
        check_file(json_path)


def check_file(path: str) -> None:
    """Refuse a file that could not be written later.

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


def write_text(path: str, text: str) -> None:
    """Write a result to a file, whole or not at all; ``-`` is standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    if path == "-":
        try:
            click.echo(text, nl=False)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        return
    with atomic_path(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
