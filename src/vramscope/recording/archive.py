"""The sealed file: a zip of stored members. Its last 64 bytes, the zip's comment, are the sha256 of all before."""

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from vramscope.errors import RecordingError
from vramscope.recording.facts import from_json, mapping_from_json, to_json
from vramscope.recording.header import META, is_header, require_version
from vramscope.recording.parts import BROKEN_ZIP

LISTING = "members.json"
"""The last member: the sha256 of every other one."""

_DIGEST_BYTES = 64  # a sha256 in hexadecimal
_CHUNK_BYTES = 1 << 20
# A zip's local file header: 30 bytes, then the member's name and, as members are stored, its content.
_ZIP_START, _NAME_AT = b"PK\x03\x04", 30
_PICKLE_START = b"\x80"
_CONTENT_AT = _NAME_AT + len(META)


def write_archive(target: IO[bytes], members: Iterable[tuple[str, bytes]]) -> None:
    """Write members, a listing of them and the checksum of it all; ``target`` is open for writing and reading."""
    digests = {}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
            digests[name] = hashlib.sha256(content).hexdigest()
        archive.writestr(zipfile.ZipInfo(LISTING), to_json({"sha256": digests}))
        archive.comment = b"0" * _DIGEST_BYTES
    digest = _digest(target)
    target.seek(-_DIGEST_BYTES, os.SEEK_END)
    target.write(digest)


class Archive:
    """The members of a sealed file, all of it verified."""

    def __init__(self, archive: zipfile.ZipFile, size_bytes: int) -> None:
        """See the members of a zip of so many bytes."""
        self._archive = archive
        self._size_bytes = size_bytes
        listing = mapping_from_json(from_json(self._read(LISTING)))
        self._digests = mapping_from_json(listing.get("sha256"))

    def names(self) -> list[str]:
        """The names of the members, the listing excluded."""
        return [name for name in self._archive.namelist() if name != LISTING]

    def read(self, name: str) -> bytes:
        """A member's content.

        Raises:
            RecordingError: it is missing, or not what the listing says.
        """
        content = self._read(name)
        if self._digests.get(name) != hashlib.sha256(content).hexdigest():
            raise RecordingError(f"its {name} is damaged")
        return content

    def _read(self, name: str) -> bytes:
        try:
            member = self._archive.getinfo(name)
            # stored, and within the file: nothing is unpacked or allocated on a member's own word
            stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
            if not stored or member.file_size > self._size_bytes:
                raise RecordingError(f"its {name} is packed in a way vramscope does not write")
            return self._archive.read(member)
        except BROKEN_ZIP as error:
            raise RecordingError(f"its {name} is missing or damaged") from error


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The members of a sealed file, after every byte of it was checked.

    Raises:
        RecordingError: it is cut, damaged, foreign or of a newer format.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise RecordingError("it is no file")
    with path.open("rb") as file:
        _require_ours(file.read(_CONTENT_AT + 256))
        _require_whole(file)
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN_ZIP as error:
            raise RecordingError("it is damaged: copy or record it again") from error
        with archive:
            yield Archive(archive, file.seek(0, os.SEEK_END))


def _require_ours(start: bytes) -> None:
    """Refuse a file that does not begin as a sealed recording does."""
    if not start:
        raise RecordingError("it is empty: it was cut, or never written")
    if start.startswith(_PICKLE_START):
        raise RecordingError("it is not a vramscope recording: is it a CUDA memory snapshot? use `vramscope snapshot`")
    ours = start.startswith(_ZIP_START) and start[_NAME_AT:_CONTENT_AT] == META.encode()
    if not ours or not is_header(start[_CONTENT_AT:]):
        raise RecordingError("it is not a vramscope recording: choose a .vram file")
    require_version(start[_CONTENT_AT:])


def _require_whole(file: IO[bytes]) -> None:
    """Refuse a file whose last bytes are not the checksum of the others."""
    digest = _digest(file)
    file.seek(-_DIGEST_BYTES, os.SEEK_END)
    if file.read() != digest:
        raise RecordingError("it is cut or damaged (its checksum does not match): copy or record it again")


def _digest(file: IO[bytes]) -> bytes:
    """The sha256, in hexadecimal, of all but the last 64 bytes."""
    remaining = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while remaining > 0:
        chunk = file.read(min(_CHUNK_BYTES, remaining))
        if not chunk:  # it shrinks while it is read
            break
        digest.update(chunk)
        remaining -= len(chunk)
    return digest.hexdigest().encode("ascii")
