"""The settings of ``PYTORCH_CUDA_ALLOC_CONF`` that change where a block is placed, and their parser.

The grammar and the limits are those of ``AcceleratorAllocatorConfig::parseArgs`` (c10/core/AllocatorConfig.cpp) and
``CUDAAllocatorConfig::parseArgs`` (c10/cuda/CUDAAllocatorConfig.cpp).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from vramscope.errors import UnsupportedError, UsageError
from vramscope.names import visible

MIB = 1024 * 1024
INTERVALS = 16
"""Entries of the division list: powers of two from 1 MiB to 64 GiB (``kRoundUpPowerOfTwoIntervals``)."""

_PLACEMENT_FREE = frozenset(
    {
        "expandable_segments_handle_type",
        "graph_capture_record_stream_reuse",
        "pinned_free_catch_all",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "release_lock_on_cudamalloc",
        "throw_on_cudamalloc_oom",
    }
)
_LIST_ITEM = re.compile(r"(>|\d+):(\d+)")
_MOST_MB = 2**44 - 1  # what fits 64 bits, as in the C++ clamp


@dataclass(frozen=True)
class AllocatorSettings:
    """The allocator's settings; sizes in bytes.

    ``max_split_size`` is None for "no limit". ``roundup_power2_divisions`` is None where rounding is off, else
    `INTERVALS` divisions (0 or 1 means none) for requests from 1 MiB, 2 MiB, 4 MiB … up. ``ignored`` names options
    that were given but change no placement.
    """

    max_split_size: int | None = None
    max_non_split_rounding: int = 20 * MIB
    roundup_power2_divisions: tuple[int, ...] | None = None
    garbage_collection_threshold: float = 0.0
    expandable_segments: bool = False
    large_segment_size: int = 20 * MIB
    per_process_memory_fraction: float = 1.0
    ignored: tuple[str, ...] = ()


def parse_settings(text: str) -> AllocatorSettings:
    """The settings in a string such as ``expandable_segments:True,max_split_size_mb:128``.

    Raises:
        UsageError: an unknown option, a value out of its range or a string that is no list of options.
        UnsupportedError: a backend other than the native allocator.
    """
    settings = AllocatorSettings()
    for option in _options(text):
        settings = _apply(settings, option)
    return settings


def parse_what_is_known(text: str) -> tuple[AllocatorSettings, tuple[str, ...]]:
    """The settings in a string that another version of PyTorch took, and what is not understood in it."""
    settings, problems = AllocatorSettings(), []
    for option in _options(text):
        try:
            settings = _apply(settings, option)
        except (UsageError, UnsupportedError) as error:
            problems.append(visible(str(error).removeprefix("allocator settings: ")))
    return settings, tuple(problems)


def describe(settings: AllocatorSettings) -> str:
    """The option string of settings that differ from the defaults; options that change no placement are left out."""
    defaults = AllocatorSettings(
        large_segment_size=settings.large_segment_size, max_non_split_rounding=settings.large_segment_size
    )
    found = []
    if settings.expandable_segments:
        found.append("expandable_segments:True")
    if settings.large_segment_size != AllocatorSettings.large_segment_size:
        found.append(f"large_segment_size_mb:{settings.large_segment_size / MIB:.15g}")
    if settings.max_split_size is not None:
        found.append(f"max_split_size_mb:{settings.max_split_size / MIB:.15g}")
    if settings.max_non_split_rounding != defaults.max_non_split_rounding:
        found.append(f"max_non_split_rounding_mb:{settings.max_non_split_rounding / MIB:.15g}")
    if settings.roundup_power2_divisions is not None:
        found.append(f"roundup_power2_divisions:{_divisions_text(settings.roundup_power2_divisions)}")
    for name in ("garbage_collection_threshold", "per_process_memory_fraction"):
        if getattr(settings, name) != getattr(defaults, name):
            found.append(f"{name}:{Decimal(repr(getattr(settings, name))):f}")
    return ",".join(found)


def _divisions_text(divisions: tuple[int, ...]) -> str:
    if len(set(divisions)) == 1:
        return str(divisions[0])
    return f"[{','.join(f'{1 << interval}:{count}' for interval, count in enumerate(divisions))}]"


def _options(text: str) -> list[str]:
    """The options of a string; commas inside brackets do not separate."""
    options = [part for part in re.split(r",(?![^\[]*\])", re.sub(r"\s", "", text)) if part]
    # the large segment size bounds two other options, so it comes first wherever it stands in the string
    return sorted(options, key=lambda option: not option.startswith("large_segment_size_mb:"))


def _apply(settings: AllocatorSettings, option: str) -> AllocatorSettings:
    key, _, value = option.partition(":")
    if not key or not value:
        raise UsageError(f"allocator settings: {option!r} is not OPTION:VALUE; separate options with commas")
    if key in _PLACEMENT_FREE:
        return replace(settings, ignored=(*settings.ignored, key))
    handler = _HANDLERS.get(key)
    if handler is None:
        known = ", ".join(sorted(_HANDLERS))
        raise UsageError(f"allocator settings: there is no option {key!r}; those that change placement are {known}")
    return handler(settings, value)


def _whole(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise UsageError(f"allocator settings: {key} takes a whole number, not {value!r}")
    return int(value)


def _megabytes(key: str, value: str, at_least_mb: int) -> int:
    number = _whole(key, value)
    if number < at_least_mb:
        raise UsageError(f"allocator settings: {key} must be at least {at_least_mb}, not {number}")
    return min(number, _MOST_MB) * MIB


def _fraction(key: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", value):
        raise UsageError(f"allocator settings: {key} takes a number such as 0.8, not {value!r}")
    return float(value)


def _large_segment_size(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    # more than kMinLargeAlloc; the default of max_non_split_rounding follows it
    size = _megabytes("large_segment_size_mb", value, 11)
    return replace(settings, large_segment_size=size, max_non_split_rounding=size)


def _max_split_size(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    size = _megabytes("max_split_size_mb", value, settings.large_segment_size // MIB)
    return replace(settings, max_split_size=size)


def _max_non_split_rounding(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    size = _megabytes("max_non_split_rounding_mb", value, settings.large_segment_size // MIB)
    return replace(settings, max_non_split_rounding=size)


def _garbage_collection(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    threshold = _fraction("garbage_collection_threshold", value)
    if not 0 < threshold < 1:
        raise UsageError(f"allocator settings: garbage_collection_threshold lies between 0 and 1, not at {value}")
    return replace(settings, garbage_collection_threshold=threshold)


def _memory_fraction(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    fraction = _fraction("per_process_memory_fraction", value)
    if not 0 <= fraction <= 1:
        raise UsageError(f"allocator settings: per_process_memory_fraction lies from 0 to 1, not at {value}")
    return replace(settings, per_process_memory_fraction=fraction)


def _expandable_segments(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    if value not in ("True", "False"):
        raise UsageError(f"allocator settings: expandable_segments is True or False, not {value!r}")
    return replace(settings, expandable_segments=value == "True")


def _backend(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    if value != "native":
        raise UnsupportedError(f"allocator settings: backend {value!r} leaves placement to the driver; use native")
    return settings


def _roundup(settings: AllocatorSettings, value: str) -> AllocatorSettings:
    if value.startswith("["):
        divisions = _division_list(value)
    else:
        divisions = (_division(value),) * INTERVALS
    return replace(settings, roundup_power2_divisions=divisions if any(d > 1 for d in divisions) else None)


def _division(value: str, least: int = 1) -> int:
    number = _whole("roundup_power2_divisions", value)
    if number < least or number & (number - 1):
        raise UsageError(f"allocator settings: roundup_power2_divisions takes powers of two, not {number}")
    return number


def _division_list(value: str) -> tuple[int, ...]:
    """The list form, such as ``[256:1,512:2,1024:4,>:8]`` (``parseRoundUpPower2Divisions``).

    The first boundary also covers everything below it, ``>`` everything above the last one.
    """
    divisions, last, first = [0] * INTERVALS, 0, True
    for item in value.removeprefix("[").removesuffix("]").split(","):
        match = _LIST_ITEM.fullmatch(item)
        if match is None or not value.endswith("]"):
            raise UsageError(f"allocator settings: {item!r} of {value} is not MB:DIVISIONS, as in [256:1,512:2,>:4]")
        count = _division(match[2], least=0)
        if match[1] == ">":
            divisions[last + 1 :] = [count] * (INTERVALS - last - 1)
            continue
        last = min(_division(match[1]).bit_length() - 1, INTERVALS - 1)
        divisions[0 if first else last : last + 1] = [count] * (last + 1 if first else 1)
        first = False
    return tuple(divisions)


_HANDLERS: dict[str, Callable[[AllocatorSettings, str], AllocatorSettings]] = {
    "backend": _backend,
    "expandable_segments": _expandable_segments,
    "garbage_collection_threshold": _garbage_collection,
    "large_segment_size_mb": _large_segment_size,
    "max_non_split_rounding_mb": _max_non_split_rounding,
    "max_split_size_mb": _max_split_size,
    "per_process_memory_fraction": _memory_fraction,
    "roundup_power2_divisions": _roundup,
}
