"""Writing a recording: part by part into a folder, which is sealed into one file at the end."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from vramscope.errors import OutputError, RecordingError
from vramscope.recording.archive import write_archive
from vramscope.recording.durable import TEMPORARY, put_in_place, write_whole, writing
from vramscope.recording.folder import SEALED, Claim, folder_of
from vramscope.recording.header import META, Header, pack_header
from vramscope.recording.parts import commit_name, pack_commit, pack_part, part_name
from vramscope.recording.recording import Recording


class RecordingWriter:
    """Writes a recording while it is made. What was appended survives a crash in the folder ``path.part``.

    An existing file at ``path`` is replaced when the recording is sealed, not before, and what a crashed recording left
    there goes when the first part is written. As a context manager it seals on a normal end and abandons on an
    exception, unless the caller did either.
    """

    def __init__(self, path: Path | str) -> None:
        """Make the folder, or take over the one that a crashed recording left.

        Args:
            path: the file to write.

        Raises:
            OutputError: the file cannot be written there, or another process is recording to it.
        """
        self._path = Path(path)
        self._target = Path(os.path.realpath(path))  # a link stays, and what it points at is replaced
        self._header: Header | None = None
        self._digests: dict[str, str] = {}
        self._parts = 0
        self._open = True
        self._begun = False
        self._finished: Path | None = None
        self._process = os.getpid()
        with writing(self._path):
            if self._target.exists() and not self._target.is_file():
                raise OutputError(f"{self._path}: exists and is no file: choose another output name")
            self._claim = Claim(folder_of(self._path))

    def append(self, recording: Recording, window: int = 0) -> None:
        """Write one part, for good: it outlives a crash of the process or the machine.

        Args:
            recording: a finished step, self-contained: its indices point into its own tables.
            window: the profiler window it was recorded in; totals of a device continue each other within one.

        Raises:
            OutputError: the disk is full or refuses; nothing is left behind.
            RecordingError: its facts cannot be said in JSON, or it is too large.
        """
        self._require_open()
        header = self._header or self._begin(Header.of(recording))
        if recording.source != header.source:
            raise ValueError(f"a part from the {recording.source} cannot continue a recording from the {header.source}")
        content = pack_part(recording, window, header)
        self._write(part_name(self._parts), content)
        self._write(commit_name(self._parts), pack_commit(recording, content))
        self._parts += 1

    def finish(self) -> None:
        """Write the whole file, but not yet to its place: all that `seal` has left to do is to rename it.

        Raises:
            OutputError: nothing was appended, or the disk is full or refuses; nothing is left behind.
        """
        self._require_open()
        if not self._parts:
            self.abandon()
            raise OutputError(f"{self._path}: not written: nothing was recorded")
        temporary = self._claim.folder / (SEALED + TEMPORARY)
        with self._writing(), temporary.open("w+b") as file:
            write_archive(file, self._members())
            file.flush()
            os.fsync(file.fileno())
        self._finished = temporary

    def seal(self) -> None:
        """Put the finished file at ``path``, atomically, and remove the folder.

        Raises:
            OutputError: nothing was appended, or the disk is full or refuses; nothing is left behind.
        """
        if self._finished is None:
            self.finish()
        self._require_open()
        assert self._finished is not None  # or finish would have raised
        with self._writing():
            put_in_place(self._finished, self._target)
        self.abandon()  # of the folder, that is: the file is whole

    def discard_sealed(self) -> None:
        """Remove the sealed file at ``path`` that is older: of the two, readers would take that one.

        Raises:
            OutputError: it cannot be removed.
        """
        with writing(self._path):
            self._target.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove all that was written, except a sealed file; safe to call at any time, any number of times."""
        if self._is_open():
            self._open = False
            with contextlib.suppress(OSError):  # what cannot be removed is an unsealed recording, and says so
                if self._begun:
                    self._claim.remove()
                else:
                    self._claim.release()

    def __enter__(self) -> Self:
        """Nothing more to do: the folder is there."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Seal after a normal end, abandon after an exception."""
        if kind is None and self._is_open():
            self.seal()
        self.abandon()

    def _begin(self, header: Header) -> Header:
        """Write the first member; without it, the folder is nothing."""
        try:
            content = pack_header(header)
        except RecordingError:
            self.abandon()
            raise
        self._begun = True
        with self._writing():
            self._claim.clear()
        self._write(META, content)
        self._header = header
        return header

    def _write(self, name: str, content: bytes) -> None:
        with self._writing():
            write_whole(self._claim.folder / name, content)
        self._digests[name] = hashlib.sha256(content).hexdigest()

    def _members(self) -> Iterator[tuple[str, bytes]]:
        """All members, in the order in which they were written, one in memory at a time."""
        for name, digest in self._digests.items():
            content = (self._claim.folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise OutputError(f"{self._path}: not written: its {name} was changed on disk: record it again")
            yield name, content

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Leave nothing behind where writing fails."""
        try:
            with writing(self._path):
                yield
        except OutputError:
            self.abandon()
            raise

    def _is_open(self) -> bool:
        """Whether this process may still write: a forked child leaves its parent's recording alone."""
        return self._open and self._process == os.getpid()

    def _require_open(self) -> None:
        if not self._is_open():
            raise RuntimeError("the recording is already sealed or abandoned")


def write_recording(recording: Recording, path: Path | str) -> None:
    """Write a whole recording to one sealed file.

    Raises:
        OutputError: it cannot be written there; nothing is left behind.
        RecordingError: its facts cannot be said in JSON, or it is too large.
    """
    with RecordingWriter(path) as writer:
        writer.append(recording)


def write_recordings(recordings: Mapping[Path, Recording]) -> None:
    """Write recordings that belong together: none takes its place before all of them are written.

    Args:
        recordings: each with the file that it goes to.

    Raises:
        OutputError: one cannot be written; none of them is, and what was there before stays.
        RecordingError: the facts of one cannot be said in JSON, or it is too large.
    """
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(RecordingWriter(path)) for path in recordings]
        for writer, recording in zip(writers, recordings.values(), strict=True):
            writer.append(recording)
            writer.finish()
        for writer in writers:
            writer.seal()


def discard_recording(path: Path) -> None:
    """Remove the recording at a path, sealed or not, if there is one.

    Raises:
        OutputError: it cannot be removed, or another process is recording to it.
    """
    with writing(path):
        if folder_of(path).exists():
            Claim(folder_of(path)).remove()
        Path(os.path.realpath(path)).unlink(missing_ok=True)


def drop_empty(path: Path) -> None:
    """Remove the folder of a recording that was not begun, unless another process holds it or it is not empty."""
    if folder_of(path).is_dir():
        with contextlib.suppress(OSError, OutputError):
            Claim(folder_of(path)).release()
