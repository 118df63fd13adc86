"""Files that are there whole or not at all."""

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vramscope.errors import OutputError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says where there is no room to write."""
_LONGEST_CHAIN = 8
"""Links that are followed: ``/dev/stdout`` leads to ``/proc/self/fd/1``, and a link of the user's own to that."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it replaces ``path`` at the end, and is removed after a failure.

    A device, a pipe and an open file of this process's own, such as ``/dev/stdout``, are written to, never replaced;
    a reader who has seen enough of one is no failure.

    Raises:
        OutputError: the file cannot be written or moved into place.
    """
    descriptor = own_descriptor(path)
    if descriptor is not None:
        with _refusals_told(path), _appended_to(descriptor) as temporary:
            yield temporary
        return
    target = path.resolve()  # a link stays, and what it leads to is replaced
    special = path.exists() and not path.is_file()  # it need have no name
    temporary = path if special else target.parent / f".{secrets.token_hex(8)}.part"
    with _refusals_told(path):
        try:
            yield temporary
            if not special:
                temporary.replace(target)
        finally:
            if not special:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


def own_descriptor(path: Path) -> int | None:
    """The open file of this process that a path leads to by its number, as ``/dev/stdout`` does; None for all else."""
    name = str(path.absolute())
    for _ in range(_LONGEST_CHAIN):
        folder, _, number = name.rpartition("/")
        if number.isdecimal() and os.path.realpath(folder) == f"/proc/{os.getpid()}/fd":
            return int(number) if Path(name).exists() else None
        if not os.path.islink(name):  # noqa: PTH114 - as text: a path of an object drops what the system keeps
            return None
        name = os.path.join(folder, os.readlink(name))  # noqa: PTH115, PTH118
    return None


@contextmanager
def _appended_to(descriptor: int) -> Iterator[Path]:
    """A temporary path; what is written there goes to an open file, from where that stands."""
    with tempfile.TemporaryDirectory(prefix="vramscope-") as folder:
        temporary = Path(folder, "part")
        yield temporary
        with temporary.open("rb") as written, suppress(BrokenPipeError), os.fdopen(os.dup(descriptor), "wb") as file:
            shutil.copyfileobj(written, file)


@contextmanager
def _refusals_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "free some space" if error.errno in NO_ROOM else "give a folder that you may write to"
        raise OutputError(f"cannot write {path}: {reason}; {advice}") from error
