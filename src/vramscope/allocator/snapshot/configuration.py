"""The allocator settings that a snapshot states."""

from dataclasses import replace
from typing import Any

from vramscope.allocator.settings import INTERVALS, AllocatorSettings, parse_what_is_known
from vramscope.names import visible

_LONGEST_TEXT = 2000


def read_settings(raw: Any) -> tuple[AllocatorSettings, str, tuple[str, ...]]:
    """Settings, their option string, and what in it is not understood.

    The option string is parsed first (it alone tells ``large_segment_size_mb``); the values in force, which the
    program may have changed since, override it. Files of torch 2.1 and before have no settings: the defaults stand.
    """
    if type(raw) is not dict:
        return AllocatorSettings(), "", ()
    text = raw.get("PYTORCH_CUDA_ALLOC_CONF")
    text = text if type(text) is str else ""
    settings, problems = parse_what_is_known(text)
    return _override(settings, raw), visible(text, longest=_LONGEST_TEXT), problems


def _override(settings: AllocatorSettings, raw: dict[Any, Any]) -> AllocatorSettings:
    split, threshold = raw.get("max_split_size"), raw.get("garbage_collection_threshold")
    expandable, roundup = raw.get("expandable_segments"), raw.get("roundup_power2_divisions")
    if type(split) is int:
        settings = replace(settings, max_split_size=split if 0 < split < 2**62 else None)
    if type(threshold) is float and 0 <= threshold < 1:
        settings = replace(settings, garbage_collection_threshold=threshold)
    if type(expandable) is bool:
        settings = replace(settings, expandable_segments=expandable)
    if type(roundup) is dict:
        settings = replace(settings, roundup_power2_divisions=_divisions(roundup))
    return settings


def _divisions(raw: dict[Any, Any]) -> tuple[int, ...] | None:
    """The table {"1": divisions from 1 MiB, "2": from 2 MiB, "4": …}."""
    divisions = [raw.get(str(1 << interval), 0) for interval in range(INTERVALS)]
    usable = all(type(d) is int and 0 <= d < 2**32 and d & (d - 1) == 0 for d in divisions)
    return tuple(divisions) if usable and any(d > 1 for d in divisions) else None
