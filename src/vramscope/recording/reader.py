"""Reading a recording: whole or part by part, from a sealed file or from the folder of one that was never sealed."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vramscope.errors import RecordingError
from vramscope.recording.archive import open_archive
from vramscope.recording.durable import reading
from vramscope.recording.folder import Folder, folder_of
from vramscope.recording.header import META, Header, unpack_header
from vramscope.recording.merge import merge
from vramscope.recording.parts import Part, commit_name, part_index, part_name, unpack_part
from vramscope.recording.recording import Recording


def read_recording(path: Path | str) -> Recording:
    """The recording in a sealed file or an unsealed folder; ``path.part`` is read where ``path`` is not there yet.

    An unsealed recording is read up to its last whole part, is not ``complete`` and says so in its last note. The parts
    stand one after another: see `merge` for how their tables are joined.

    Raises:
        RecordingError: it is missing, cut, damaged, foreign or of a newer format.
    """
    with reading(Path(path)):
        return merge(_parts(Path(path)))


def iterate_parts(path: Path | str) -> Iterator[Recording]:
    """The parts of a recording, each self-contained, without holding more than two in memory.

    All parts of an unsealed recording are not ``complete``, and the last one has a note that says so.

    Raises:
        RecordingError: it is missing, cut, damaged, foreign or of a newer format.
    """
    for part in iterate_windows(path):
        yield part.recording


def iterate_windows(path: Path | str) -> Iterator[Part]:
    """The same as `iterate_parts`, with each part's number and profiler window.

    Raises:
        RecordingError: it is missing, cut, damaged, foreign or of a newer format.
    """
    with reading(Path(path)):
        yield from _parts(Path(path))


class _Members(Protocol):
    """The named members of a recording, in a folder or a file."""

    def names(self) -> list[str]:
        """The names of the members that are finished."""

    def read(self, name: str) -> bytes:
        """A member's content."""


def _parts(path: Path) -> Iterator[Part]:
    """The parts of a recording, wherever they are."""
    if path.is_dir():
        yield from _unsealed_parts(path)
    elif path.exists():
        yield from _sealed_parts(path)
    elif folder_of(path).is_dir():
        yield from _unsealed_parts(folder_of(path))
    else:
        raise RecordingError("there is no such file: check the name")


def _sealed_parts(path: Path) -> Iterator[Part]:
    """Every part of a sealed file."""
    with open_archive(path) as members:
        header = unpack_header(members.read(META))
        indices = sorted(index for index in map(part_index, members.names()) if index is not None)
        if not indices or indices != list(range(len(indices))):
            raise RecordingError("parts of it are missing: record it again")
        for index in indices:
            yield _part(members, index, header)


def _unsealed_parts(path: Path) -> Iterator[Part]:
    """The whole parts of a folder, the last one with a note that says what is missing."""
    members = Folder(path)
    if META not in members.names():
        raise RecordingError("it is a folder without a recording (no meta.json in it): choose a .vram file")
    header = unpack_header(members.read(META))
    last = None
    for part in _whole_parts(members, header):
        if last is not None:
            yield last
        last = replace(part, recording=replace(part.recording, complete=False))
    if last is None:
        raise RecordingError("it holds no whole part, so nothing of it can be read: record it again")
    yield replace(last, recording=last.recording.with_notes(_missing(members, last.index + 1)))


def _whole_parts(members: _Members, header: Header) -> Iterator[Part]:
    """Parts up to the first that is not whole."""
    for index in itertools.count():
        try:
            yield _part(members, index, header)
        except RecordingError:
            return


def _part(members: _Members, index: int, header: Header) -> Part:
    return unpack_part(index, members.read(part_name(index)), members.read(commit_name(index)), header)


def _missing(members: _Members, count: int) -> str:
    """What an unsealed recording lacks, in plain words.

    Raises:
        RecordingError: the folder was sealed or removed while it was read: what was read may lack any number of parts.
    """
    names = members.names()
    if META not in names:
        raise RecordingError("it was sealed or removed while it was read: read it again")
    parts = "1 whole part was" if count == 1 else f"{count} whole parts were"
    note = f"this recording was never sealed: {parts} read, and what came after is missing"
    if any(index >= count for index in map(part_index, names) if index is not None):
        note += f"; part {count} is damaged, so it and those behind it were left out"
    return note
