"""Opens a snapshot file: foreign files are named in one line, the rest passes the opcode check and a bare loader."""

import mmap
import pickle
from pathlib import Path
from typing import Any, NoReturn

from vramscope.allocator.snapshot.model import Snapshot
from vramscope.allocator.snapshot.opcodes import MEMORY_LIMIT, check_opcodes
from vramscope.allocator.snapshot.shape import build_snapshot
from vramscope.collector import paused
from vramscope.errors import RecordingError

_ADVICE = "give a file written by torch.cuda.memory._dump_snapshot"
_FOREIGN = {
    b"PK": "a zip archive (a .vram recording or torch.save file?)",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"{": "JSON",
    b"[": "JSON",
    b"<": "HTML or XML (a saved web page?)",
    b"\xef\xbb\xbf": "text",
    b"(": "a pickle of the text protocol",
}
_LOAD_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class _PlainUnpickler(pickle.Unpickler):
    """Loads built-in containers, strings and numbers; the opcode check lets nothing else reach it."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse every global."""
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, _identifier: Any) -> NoReturn:
        """Refuse every outside object."""
        raise pickle.UnpicklingError("it refers to an object outside the file")


def read_snapshot(path: Path, memory_limit: int = MEMORY_LIMIT) -> Snapshot:
    """The snapshot in a file written by ``torch.cuda.memory._dump_snapshot`` (torch 2.1 and later).

    Args:
        path: the file.
        memory_limit: bytes that the loaded objects may take.

    Raises:
        RecordingError: the file is no snapshot, is cut or damaged, or too large; one line that says which.
    """
    name = str(path)
    _check_file(path, name, memory_limit)
    with paused():
        return build_snapshot(_load(path, name), name, path.stat().st_size)


def _check_file(path: Path, name: str, memory_limit: int) -> None:
    if not path.is_file():
        raise RecordingError(f"{name}: {'not a file' if path.exists() else 'no such file'}; give a snapshot .pickle")
    try:
        with path.open("rb") as file:
            _check_beginning(file.read(16), name)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                check_opcodes(data, name, memory_limit)
    except OSError as error:
        raise RecordingError(f"{name}: cannot be read: {error.strerror}") from error


def _check_beginning(start: bytes, name: str) -> None:
    """Refuse what is no pickle of protocol 2 to 5, saying what it looks like."""
    if not start:
        raise RecordingError(f"{name}: the file is empty")
    foreign = next((what for magic, what in _FOREIGN.items() if start.lstrip()[: len(magic)] == magic), None)
    if foreign is not None:
        raise RecordingError(f"{name}: no CUDA memory snapshot but {foreign}; {_ADVICE}")
    if start[0] != 0x80 or len(start) < 2 or not 2 <= start[1] <= 5:
        raise RecordingError(f"{name}: no pickle, so no CUDA memory snapshot; {_ADVICE}")


def _load(path: Path, name: str) -> object:
    try:
        with path.open("rb", buffering=1 << 20) as file:
            return _PlainUnpickler(file).load()
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise RecordingError(f"{name}: the pickle is damaged ({reason})") from None
