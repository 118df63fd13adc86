"""Where results go: standard output, a JSON file, a folder; and words about them, to standard error."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from vramscope.errors import OutputError
from vramscope.views.atomic import atomic_path
from vramscope.views.places import check_file as check_file  # the commands take these from here
from vramscope.views.places import check_folder as check_folder
from vramscope.views.places import figures_beside as figures_beside


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; give another with --out") from error


def prepare_outputs(
    folder: Path | None, json_path: str | None, *sources: Path | None, figures: Sequence[Path] = ()
) -> None:
    """Refuse places that could not be written to, before any work is done for them.

    Args:
        folder: for results, if any.
        json_path: for the figures, if any.
        *sources: files that the work begins with, which the figures must not take the place of.
        figures: those of recordings, whose place they must not take either.

    Raises:
        OutputError: the folder or the JSON file cannot be written.
    """
    if folder is not None:
        check_folder(folder)
    if json_path is not None:
        check_file(json_path, *filter(None, sources), figures=figures)


def files_of(target: str) -> tuple[Path, ...]:
    """Where the files may be that a target names: a factory's module, or a configuration."""
    library, _, name = target.partition(":")
    if library == "hf":
        return Path(name), Path(name, "config.json")
    module = "" if library in ("timm", "torchvision") else target.rpartition(":")[0]
    return (Path(module), Path(f"{module.replace('.', '/')}.py")) if module else ()


def print_line(text: str) -> None:
    """Print a result on standard output, as `write_text` does."""
    write_text("-", f"{text}\n")


def tell(text: str, *, nl: bool = True) -> None:
    """Say something on standard error; where nobody can hear it, that changes nothing, least of all the exit code."""
    try:
        click.echo(text, err=True, nl=nl)
    except OSError:  # a full disk, or a reader who has left
        drop(sys.stderr)


def drop(stream: IO[str]) -> None:
    """Send what is still to be written nowhere, or Python complains of it when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def give_up_printing(error: OSError) -> str:
    """What to say where standard output takes no more; what is still to be written there goes nowhere."""
    if sys.stdout is not None:
        drop(sys.stdout)
    return f"standard output cannot be written: {error.strerror}; free some space, or write elsewhere"


def write_text(path: str, text: str) -> None:
    """Write a result to a file, whole or not at all; ``-`` is standard output.

    A reader who has seen enough (`… | head`) is no failure and changes no exit code: click would make it 1.

    Raises:
        OutputError: the file cannot be written.
    """
    if path == "-":
        try:
            click.echo(text, nl=False)  # flushes, and writes nothing where standard output was closed
        except BrokenPipeError:
            return
        except OSError as error:
            raise OutputError(give_up_printing(error)) from error
        return
    with atomic_path(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
