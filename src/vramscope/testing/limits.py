"""Limits as a test's markers give them, checked once."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vramscope.errors import UsageError
from vramscope.ledger.categories import Category
from vramscope.units import parse_size

AUTO = "auto"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_MOST_WARMUPS = 100


@dataclass(frozen=True)
class MemoryLimit:
    """The most that a test may hold at once of what it allocated itself; the limit itself is fine.

    ``category`` narrows it to one category, at that category's own fullest moment.
    """

    size_bytes: int
    category: Category | None = None
    device: str = AUTO
    warmup: int = 0


@dataclass(frozen=True)
class LeakLimit:
    """The most of what a test allocated that may still be there when it has returned."""

    size_bytes: int
    device: str = AUTO
    warmup: int = 0


def parse_memory_limit(arguments: Sequence[Any], options: Mapping[str, Any]) -> MemoryLimit:
    """The limit in ``limit_vram("200 MiB", category=None, device="auto", warmup=0)``.

    Raises:
        UsageError: something in it is malformed.
    """
    size_bytes = _size("limit_vram", arguments, options, {"category", "device", "warmup"})
    return MemoryLimit(size_bytes, _category(options.get("category")), *_common(options))


def parse_leak_limit(arguments: Sequence[Any], options: Mapping[str, Any]) -> LeakLimit:
    """The limit in ``limit_vram_leaks("0 B", device="auto", warmup=0)``.

    Raises:
        UsageError: something in it is malformed.
    """
    return LeakLimit(_size("limit_vram_leaks", arguments, options, {"device", "warmup"}), *_common(options))


def _size(marker: str, arguments: Sequence[Any], options: Mapping[str, Any], known: set[str]) -> int:
    unknown = set(options) - known - {"size"}
    if unknown:
        raise UsageError(f"{marker} has no option {min(unknown)!r}: choose from {', '.join(sorted(known))}")
    sizes = [*arguments, *([options["size"]] if "size" in options else [])]
    if len(sizes) != 1 or not isinstance(sizes[0], str):
        raise UsageError(f'{marker} takes one size as text, such as {marker}("200 MiB")')
    return 0 if sizes[0].strip() == "0" else parse_size(sizes[0])


def _category(name: Any) -> Category | None:
    if name is None:
        return None
    if name in tuple(Category):
        return Category(name)
    near = difflib.get_close_matches(str(name), list(Category), 1)
    raise UsageError(f"there is no category {name!r}: {f'did you mean {near[0]}?' if near else ', '.join(Category)}")


def _common(options: Mapping[str, Any]) -> tuple[str, int]:
    device, warmup = options.get("device", AUTO), options.get("warmup", 0)
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise UsageError(f"device={device!r}: choose auto, cpu, cuda or cuda:N")
    if type(warmup) is not int or not 0 <= warmup <= _MOST_WARMUPS:
        raise UsageError(f"warmup={warmup!r}: give how often to run the test before, from 0 to {_MOST_WARMUPS}")
    return device, warmup
