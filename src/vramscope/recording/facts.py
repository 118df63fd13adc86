"""The facts of a recording that are no columns, as JSON: written strictly, and believed only after a look."""

import json
from typing import Any

from vramscope.errors import RecordingError
from vramscope.recording.recording import Device

MOST_JSON_BYTES = 1 << 28
"""No JSON of a recording is larger; names and facts of a whole training run stay below a hundredth of it."""


def to_json(value: Any) -> bytes:
    """Compact ASCII JSON; lone surrogates, as in undecodable file names, survive.

    Raises:
        RecordingError: the value holds something that JSON cannot say.
    """
    try:
        content = json.dumps(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordingError(f"the facts of a recording cannot be written as JSON: {error}") from error
    if len(content) > MOST_JSON_BYTES:
        raise RecordingError(f"the facts of a recording take {len(content)} bytes; at most {MOST_JSON_BYTES} fit")
    return content


def from_json(content: bytes) -> Any:
    """The value of JSON text.

    Raises:
        RecordingError: the text is no JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordingError("its JSON is damaged") from error


def devices_from_json(rows: Any) -> tuple[Device, ...]:
    """The devices of a header or a part.

    Raises:
        RecordingError: a device lacks a name or a total, or they are of another type.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordingError("its list of devices is damaged")
    return tuple(_device(row) for row in rows)


def strings_from_json(values: Any) -> tuple[str, ...]:
    """A list of strings, checked."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise RecordingError("a list of names or notes in it is damaged")
    return tuple(values)


def mapping_from_json(value: Any) -> dict[str, Any]:
    """A JSON object, checked."""
    if not isinstance(value, dict):
        raise RecordingError("its environment or workload is damaged")
    return value


def _device(row: dict[str, Any]) -> Device:
    words = (row.get("name"), row.get("description"))
    totals = (row.get("start_total"), row.get("end_total"))
    if not all(isinstance(word, str) for word in words) or not all(_is_int64(total) for total in totals):
        raise RecordingError("its list of devices is damaged")
    return Device(str(words[0]), str(words[1]), int(totals[0] or 0), int(totals[1] or 0))


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63
