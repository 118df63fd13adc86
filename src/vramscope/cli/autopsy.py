"""What a command says when the workload runs out of memory: the autopsy, and where the recording is."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vramscope.cli.output import make_folder, tell, write_text
from vramscope.errors import MemoryExhaustedError


@contextmanager
def explained_failure(folder: Path | None) -> Iterator[None]:
    """Print the autopsy of a workload that runs out of memory, and keep its recording in ``folder`` if one is given."""
    try:
        yield
    except MemoryExhaustedError as error:
        text = "" if error.recording is None else _read(error.recording)
        if folder is not None and error.recording is not None:
            make_folder(folder)
            error.recording = Path(shutil.move(error.recording, folder / error.recording.name))
            write_text(str(folder / "out-of-memory.txt"), text)
        tell(text, nl=False)
        if error.recording is None:
            raise
        raise _with_place(error) from error


def _with_place(error: MemoryExhaustedError) -> MemoryExhaustedError:
    named = MemoryExhaustedError(f"{error}; what led there is in {error.recording}")
    for note in getattr(error, "__notes__", ()):
        named.add_note(note)
    return named


def _read(recording: Path) -> str:
    from vramscope.views.autopsy import autopsy_of  # only a failure needs it

    return autopsy_of(recording, sys.stderr.encoding or "ascii")
