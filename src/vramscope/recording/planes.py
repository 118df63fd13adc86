"""A table as one array of bytes that deflate packs well.

The array has the shape (columns, 8, rows): each column's differences from row to row, zigzag encoded (0, -1, 1, -2
become 0, 1, 2, 3), little-endian, with all first bytes together, then all second bytes and so on. Most of those byte
planes are zeros or repeat: deflate makes of them about half of what it makes of the plain columns.
"""

import io

import numpy as np
import numpy.typing as npt

from vramscope.errors import RecordingError
from vramscope.recording.recording import Integers

MOST_ROWS = 1 << 28
"""No table of one part is longer; a step of a large model has a thousandth of it."""
_HEADER_BYTES = 1 << 12


def pack_columns(columns: list[Integers]) -> bytes:
    """Columns of equal length as a ``.npy``.

    Raises:
        RecordingError: there are more rows than a part may have.
    """
    if len(columns[0]) > MOST_ROWS:
        raise RecordingError(f"a part of a recording has {len(columns[0])} rows; at most {MOST_ROWS} fit")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.stack([_planes(column) for column in columns]), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def _planes(column: Integers) -> npt.NDArray[np.uint8]:
    """A column as eight planes of bytes. Sums wrap around, so every 64-bit value survives."""
    difference = np.diff(column, prepend=np.int64(0))
    zigzag = (difference << 1) ^ (difference >> 63)
    return np.ascontiguousarray(zigzag.astype("<i8").view(np.uint8).reshape(-1, 8).T)


def _column(planes: npt.NDArray[np.uint8]) -> Integers:
    """The inverse of `_planes`."""
    zigzag = np.ascontiguousarray(planes.T).view("<u8")[:, 0].astype(np.uint64, copy=False)
    difference = (zigzag >> np.uint64(1)) ^ -(zigzag & np.uint64(1))
    return np.cumsum(difference.view(np.int64), dtype=np.int64)


def most_bytes(columns: int) -> int:
    """What the ``.npy`` of so many columns can have at most."""
    return MOST_ROWS * 8 * max(columns, 1) + _HEADER_BYTES


def unpack_columns(content: bytes, columns: int) -> list[Integers]:
    """The columns in a ``.npy``; its header is believed only where it agrees with the data that is there.

    Raises:
        RecordingError: it is no such array.
        ValueError: it is no array at all.
    """
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise RecordingError("one of its arrays has an unknown format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    values = np.frombuffer(content, dtype=np.uint8, offset=stream.tell())
    fits = len(shape) == 3 and shape[:2] == (columns, 8) and 0 <= shape[2] <= MOST_ROWS
    if not fits or fortran_order or dtype != np.uint8 or len(values) != columns * 8 * shape[2]:
        raise RecordingError("one of its arrays is not a table of vramscope's")
    return [_column(planes) for planes in values.reshape(shape)]
