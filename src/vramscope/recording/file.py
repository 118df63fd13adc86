"""The recording file: what to write and read it with.

While it is made, ``NAME.vram.part`` is a folder; every file in it is whole or not there:

- ``meta.json``: format, version, and the facts that hold for all parts, with a checksum;
- ``part-00000.npz`` and so on, one for each finished step: five tables of 64-bit columns, their strings and facts;
- ``part-00000.json`` and so on: the checksum of a part. It is written last, and a part without it does not count.

At the end ``NAME.vram`` takes the folder's place: a zip of the same members and of ``members.json``, their checksums.
Its last 64 bytes are the checksum of all bytes before them. Nothing in it is a pickle.
"""

from vramscope.recording.folder import folder_of
from vramscope.recording.header import FORMAT_VERSION, Header
from vramscope.recording.parts import Part, commit_name
from vramscope.recording.reader import iterate_parts, iterate_windows, read_recording
from vramscope.recording.writer import RecordingWriter, discard_recording, drop_empty, write_recording, write_recordings

__all__ = [
    "FORMAT_VERSION",
    "Header",
    "Part",
    "RecordingWriter",
    "commit_name",
    "discard_recording",
    "drop_empty",
    "folder_of",
    "iterate_parts",
    "iterate_windows",
    "read_recording",
    "write_recording",
    "write_recordings",
]
