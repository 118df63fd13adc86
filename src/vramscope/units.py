"""Sizes in and out of text. Everywhere else a size is an int of bytes."""

import re
from decimal import ROUND_CEILING, Decimal

from vramscope.errors import UsageError

_FACTORS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)
_PERCENTAGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def parse_size(text: str) -> int:
    """Bytes in a size such as ``24GiB``, ``1.5 GB`` or ``512 B``.

    KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB powers of 1024. A unit is required. A size such as
    1.7GiB is no whole number of bytes: the fraction of a byte is dropped, so that a limit never grows.

    Raises:
        UsageError: the text is not one number and one known unit, or less than a byte and not 0.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _FACTORS:
        raise UsageError(f"{text!r} is not a size: write a number and a unit, such as 24GiB, 500MB or 0B")
    size_bytes = Decimal(match[1]) * _FACTORS[match[2].lower()]
    if 0 < size_bytes < 1:
        raise UsageError(f"{text!r} is less than a byte: give 0B, or one byte and more")
    return int(size_bytes)


def spaced_size(text: str) -> str:
    """A size as it was given, but for how the unit is written: ``1730mib`` gives ``1730 MiB``.

    Raises:
        UsageError: as `parse_size`.
    """
    parse_size(text)
    match = _SIZE.fullmatch(text)
    assert match is not None
    return f"{match[1]} {match[2].upper().replace('I', 'i')}"


def parse_share(text: str, whole_bytes: int) -> int:
    """Bytes in a percentage of a whole, rounded up, such as ``5%``; or in a size.

    Raises:
        UsageError: the text is neither, or more than 100 %.
    """
    match = _PERCENTAGE.fullmatch(text)
    if match is None and _SIZE.fullmatch(text) is None:
        raise UsageError(f"{text!r} is neither a size nor a share: write 2GiB, or 5%")
    if match is None:
        return parse_size(text)
    share = Decimal(match[1])
    if share > 100:
        raise UsageError(f"{text!r} is more than the whole: give at most 100%")
    return int((whole_bytes * share / 100).to_integral_value(rounding=ROUND_CEILING))


def format_size(size_bytes: int) -> str:
    """A size for people: three or four significant digits and a binary unit, such as ``474.7 MiB``."""
    magnitude = abs(size_bytes)
    power = 0
    while power + 1 < len(_BINARY_UNITS) and magnitude >= 1024 ** (power + 1):
        power += 1
    if power == 0:
        return f"{size_bytes} B"
    return f"{size_bytes / 1024**power:,.1f} {_BINARY_UNITS[power]}"
