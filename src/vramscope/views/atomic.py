"""Files that are there whole or not at all."""

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vramscope.errors import OutputError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says where there is no room to write."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it replaces ``path`` at the end, and is removed after a failure.

    Raises:
        OutputError: the file cannot be written or moved into place.
    """
    target = path.resolve()  # a link stays, and what it leads to is replaced
    special = (
        path.exists() and not path.is_file()
    )  # a device or pipe is written to, never replaced; it need have no name
    temporary = path if special else target.parent / f".{secrets.token_hex(8)}.part"
    try:
        yield temporary
        if not special:
            temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "free some space" if error.errno in NO_ROOM else "give a folder that you may write to"
        raise OutputError(f"cannot write {path}: {reason}; {advice}") from error
    finally:
        if not special:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
