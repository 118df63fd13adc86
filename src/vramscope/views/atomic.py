"""Files that are there whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vramscope.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it replaces ``path`` at the end, and is removed after a failure.

    Raises:
        OutputError: the file cannot be written or moved into place.
    """
    target = path.resolve()  # a link stays, and what it leads to is replaced
    special = target.exists() and not target.is_file()  # a device or pipe is written to, never replaced
    temporary = target if special else target.parent / f".{secrets.token_hex(8)}.part"
    try:
        yield temporary
        if not special:
            temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; give a folder that you may write to") from error
    finally:
        if not special:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
