"""One part of a recording as bytes: an ``.npz`` of five tables and their facts, and the checksum that commits it."""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from vramscope.errors import RecordingError
from vramscope.recording.facts import (
    MOST_JSON_BYTES,
    devices_from_json,
    from_json,
    mapping_from_json,
    strings_from_json,
    to_json,
)
from vramscope.recording.header import Header
from vramscope.recording.planes import most_bytes, pack_columns, unpack_columns
from vramscope.recording.recording import Counters, Events, Marks, Recording, Scopes, Seeds

TABLES: dict[str, type[Scopes | Events | Marks | Counters | Seeds]] = {
    "scopes": Scopes,
    "events": Events,
    "marks": Marks,
    "counters": Counters,
    "seeds": Seeds,
}

_FACTS, _STRINGS = "part.json", "strings.json"
_DEFLATE_LIMIT = 1032  # deflate cannot say more than 258 bytes in 2 bits; a larger ratio is a lie
_SMALL_MEMBER_BYTES = 1 << 12
_ENCODING = "zigzag byte planes"
BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression method this Python does not know
    OverflowError,
    RuntimeError,  # an encrypted member
    ValueError,
)
"""What `zipfile` raises where a zip is not what it claims to be."""
_PART = re.compile(r"part-(\d{5,9})\.json")
_Table = TypeVar("_Table", Scopes, Events, Marks, Counters, Seeds)


@dataclass(frozen=True)
class Part:
    """What one step gave. ``window`` numbers the profiler windows: a device's totals have a base for each of them."""

    index: int
    window: int
    recording: Recording


def part_name(index: int) -> str:
    """The member that holds a part."""
    return f"part-{index:05}.npz"


def commit_name(index: int) -> str:
    """The member that says a part is whole."""
    return f"part-{index:05}.json"


def part_index(member: str) -> int | None:
    """The part that a member commits, if it commits one."""
    match = _PART.fullmatch(member)
    return int(match[1]) if match else None


def pack_part(recording: Recording, window: int, header: Header) -> bytes:
    """A part's ``.npz``: its tables and strings, and those of its facts that the header does not already hold.

    Raises:
        RecordingError: it is larger than a part may be, or holds facts that JSON cannot say.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, _FACTS, to_json(_facts(recording, window, header)))
        _add(archive, _STRINGS, to_json(recording.strings))
        for name, kind in TABLES.items():
            table = getattr(recording, name)
            _add(archive, f"{name}.npy", pack_columns([getattr(table, column) for column in kind.column_names()]))
    return buffer.getvalue()


def pack_commit(recording: Recording, content: bytes) -> bytes:
    """The small JSON whose presence says that a part is whole."""
    return to_json({"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": _rows(recording)})


def unpack_part(index: int, content: bytes, commit: bytes, header: Header) -> Part:
    """A part from its ``.npz`` and the JSON that commits it.

    Raises:
        RecordingError: they do not belong together, or hold what no version of vramscope wrote.
    """
    promised = mapping_from_json(from_json(commit))
    if promised.get("sha256") != hashlib.sha256(content).hexdigest() or promised.get("bytes") != len(content):
        raise RecordingError(f"its part {index} is damaged")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            part = _unpack(index, archive, header)
    except BROKEN_ZIP as error:
        raise RecordingError(f"its part {index} is damaged ({error})") from error
    if promised.get("rows") != _rows(part.recording):
        raise RecordingError(f"its part {index} is damaged")
    return part


def _facts(recording: Recording, window: int, header: Header) -> dict[str, Any]:
    own = {"environment": dict(recording.environment), "workload": dict(recording.workload), "notes": recording.notes}
    shared = {"environment": dict(header.environment), "workload": dict(header.workload), "notes": header.notes}
    return {
        "window": window,
        "complete": recording.complete,
        "encoding": _ENCODING,
        "columns": {name: kind.column_names() for name, kind in TABLES.items()},
        "devices": [asdict(device) for device in recording.devices],
        **{key: value for key, value in own.items() if value != shared[key]},
    }


def _rows(recording: Recording) -> dict[str, int]:
    return {name: len(getattr(recording, name)) for name in TABLES}


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a deflated member that does not tell when it was written, so that equal recordings are equal files."""
    member = zipfile.ZipInfo(name)
    archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=6)


def _unpack(index: int, archive: zipfile.ZipFile, header: Header) -> Part:
    facts = mapping_from_json(from_json(_member(archive, _FACTS, MOST_JSON_BYTES)))
    columns = mapping_from_json(facts.get("columns"))
    if facts.get("encoding") != _ENCODING:
        raise RecordingError(f"its part {index} is packed in an unknown way: upgrade vramscope")
    if type(facts.get("window")) is not int:
        raise RecordingError(f"its part {index} is damaged")
    own_notes = strings_from_json(facts.get("notes", []))
    recording = Recording(
        source=header.source,
        scopes=_unpack_table(archive, "scopes", Scopes, columns),
        events=_unpack_table(archive, "events", Events, columns),
        marks=_unpack_table(archive, "marks", Marks, columns),
        counters=_unpack_table(archive, "counters", Counters, columns),
        seeds=_unpack_table(archive, "seeds", Seeds, columns),
        strings=strings_from_json(from_json(_member(archive, _STRINGS, MOST_JSON_BYTES))),
        devices=devices_from_json(facts.get("devices")),
        environment={**header.environment, **mapping_from_json(facts.get("environment", {}))},
        workload={**header.workload, **mapping_from_json(facts.get("workload", {}))},
        notes=header.notes + tuple(note for note in own_notes if note not in header.notes),
        complete=facts.get("complete") is True,
    )
    return Part(index, facts["window"], recording)


def _unpack_table(archive: zipfile.ZipFile, name: str, kind: type[_Table], columns: Mapping[str, Any]) -> _Table:
    """A table, its known columns picked by name: a newer minor version may have more, or another order."""
    stored = strings_from_json(columns.get(name))
    content = _member(archive, f"{name}.npy", most_bytes(len(stored)))
    found = dict(zip(stored, unpack_columns(content, len(stored)), strict=True))
    missing = [column for column in kind.column_names() if column not in found]
    if missing:
        raise RecordingError(f"its table {name} has no column {missing[0]}")
    return kind(**{column: found[column] for column in kind.column_names()})


def _member(archive: zipfile.ZipFile, name: str, limit_bytes: int) -> bytes:
    """A member's content, unless its declared size is more than such a member can have."""
    declared = archive.getinfo(name)
    possible = min(limit_bytes, declared.compress_size * _DEFLATE_LIMIT + _SMALL_MEMBER_BYTES)
    if declared.file_size > possible:
        raise RecordingError(f"its {name} claims {declared.file_size} bytes, more than it can hold")
    with archive.open(declared) as stream:
        content = stream.read(declared.file_size)  # unpacks no more than that, whatever the stream would give
    if len(content) != declared.file_size:
        raise RecordingError(f"its {name} is cut")
    return content
