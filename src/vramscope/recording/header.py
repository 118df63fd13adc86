"""`meta.json`, the first member of every recording: what the file is, and the facts that hold for all of its parts."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from vramscope.errors import RecordingError
from vramscope.recording.facts import devices_from_json, from_json, mapping_from_json, strings_from_json, to_json
from vramscope.recording.recording import Device, Recording, Source

FORMAT_VERSION = (1, 0)
"""Major and minor version of the file format.

A reader ignores members, columns and keys it does not know, so what only adds to the format raises the minor version;
anything an older reader would misread raises the major one, and such files are refused.

- 1.0: the first.
"""
META = "meta.json"

_MAGIC = b'{"format": "vramscope recording", "version": "'
_VERSION = re.compile(re.escape(_MAGIC) + rb'(\d{1,6})\.(\d{1,6})"')


@dataclass(frozen=True)
class Header:
    """The facts that hold for every part of a recording; a part may add to them."""

    source: Source
    devices: tuple[Device, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """The header of a file that begins with this recording."""
        return cls(recording.source, recording.devices, recording.environment, recording.workload, recording.notes)


def is_header(start: bytes) -> bool:
    """Whether bytes begin as `meta.json` does."""
    return start.startswith(_MAGIC)


def pack_header(header: Header) -> bytes:
    """`meta.json`: the format's name and version, a checksum, and the facts it covers.

    Raises:
        RecordingError: the facts cannot be said in JSON.
    """
    said = {
        "source": header.source,
        "devices": [asdict(device) for device in header.devices],
        "environment": dict(header.environment),
        "workload": dict(header.workload),
        "notes": header.notes,
    }
    facts = from_json(to_json(said))  # keys that JSON makes equal, such as 1 and "1", would not add up when read again
    checksum = _checksum(to_json(facts))
    version = "{}.{}".format(*FORMAT_VERSION)
    return to_json({"format": "vramscope recording", "version": version, "sha256": checksum, "facts": facts})


def unpack_header(content: bytes) -> Header:
    """The header that `pack_header` wrote.

    Raises:
        RecordingError: the content is damaged, not ours, or of a newer format.
    """
    require_version(content)
    document = from_json(content)
    if not isinstance(document, dict) or document.get("sha256") != _checksum(to_json(document.get("facts"))):
        raise RecordingError("its meta.json is damaged")
    return _header(document["facts"])


def require_version(start: bytes) -> None:
    """Refuse what is not ours, and formats that this version cannot read."""
    match = _VERSION.match(start)
    if match is None:
        raise RecordingError("its meta.json is damaged or not vramscope's")
    major = int(match[1])
    if major != FORMAT_VERSION[0]:
        advice = "upgrade vramscope" if major > FORMAT_VERSION[0] else "read it with the vramscope that wrote it"
        raise RecordingError(
            f"it has format {major}.{int(match[2])} and this vramscope reads {FORMAT_VERSION[0]}.x: {advice}"
        )


def _header(facts: Any) -> Header:
    """A header from checked facts of any minor version."""
    facts = mapping_from_json(facts)
    if facts.get("source") not in tuple(Source):
        raise RecordingError(f"its source {facts.get('source')!r} is unknown to this vramscope: upgrade vramscope")
    return Header(
        source=Source(facts["source"]),
        devices=devices_from_json(facts.get("devices")),
        environment=mapping_from_json(facts.get("environment")),
        workload=mapping_from_json(facts.get("workload")),
        notes=strings_from_json(facts.get("notes")),
    )


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
