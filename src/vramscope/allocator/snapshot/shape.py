"""Turns the loaded objects into a `Snapshot`: types and ranges are checked, contradictions become marks."""

from collections import Counter
from typing import Any, TypeAlias

import numpy as np

from vramscope.allocator.blocks import PoolId
from vramscope.allocator.settings import AllocatorSettings
from vramscope.allocator.snapshot.configuration import read_settings
from vramscope.allocator.snapshot.frames import StackTable
from vramscope.allocator.snapshot.model import UNKNOWN, Action, Annotation, Snapshot, Trace
from vramscope.allocator.snapshot.segments import MOST_BYTES, read_pool, read_segments
from vramscope.errors import RecordingError
from vramscope.names import EXPORTED_FROM, visible
from vramscope.recording.recording import Integers

Raw: TypeAlias = Any
"""An object straight from the file: built-in containers, strings and numbers in any shape."""
_CHUNK = 65_536
_ACTIONS = {
    "alloc": Action.ALLOC,
    "free_requested": Action.FREE_REQUESTED,
    "free": Action.FREE_REQUESTED,
    "free_completed": Action.FREE_COMPLETED,
    "segment_alloc": Action.SEGMENT_ALLOC,
    "segment_free": Action.SEGMENT_FREE,
    "segment_map": Action.SEGMENT_MAP,
    "segment_unmap": Action.SEGMENT_UNMAP,
    "oom": Action.OOM,
    "snapshot": Action.SNAPSHOT,
    "annotate": Action.ANNOTATE,
    "user_defined": Action.ANNOTATE,
}
_NEEDS_NO_PLACE = (Action.OOM, Action.SNAPSHOT, Action.ANNOTATE, Action.OTHER)
_MOST_NAMES = 8
_MOST_POOLS = 65_536
_LONGEST_KIND = 20


def build_snapshot(raw: Raw, name: str, file_bytes: int) -> Snapshot:
    """The snapshot in a loaded object, which is taken apart to save memory.

    Args:
        raw: what the file holds.
        name: the file, for messages.
        file_bytes: its size, which bounds how often shared parts may be repeated.

    Raises:
        RecordingError: it has not the shape of a snapshot.
    """
    if type(raw) is not dict or type(raw.get("segments")) is not list or type(raw.get("device_traces")) is not list:
        what = "a dict without 'segments' and 'device_traces'" if type(raw) is dict else f"a {type(raw).__name__}"
        raise RecordingError(f"{name}: the pickle holds {what}, no CUDA memory snapshot")
    _check_sharing(raw, name, file_bytes)
    stacks, marks, unknown = StackTable(), Marks(), Counter[str]()
    traces = [
        _read_trace(trace, f"{name}: device {device}", stacks, unknown)
        for device, trace in enumerate(raw["device_traces"])
    ]
    exported_from = _exported_from(raw.get(EXPORTED_FROM))
    segments = read_segments(raw["segments"], name, stacks, marks.add, ruled=not exported_from)
    settings, text = _settings(raw, marks)
    _check_devices(segments, traces, marks)
    traces += [_no_trace() for _ in range(len(traces), max((s.device + 1 for s in segments), default=0))]
    if stacks.damaged:
        marks.add("stack frames are damaged; sites may be wrong", "", stacks.damaged)
    for action, count in unknown.items():
        marks.add(f"trace entries of an unknown kind {action} were passed over", "", count)
    annotations = _read_annotations(raw.get("external_annotations"))
    return Snapshot(
        name=name,
        segments=segments,
        traces=tuple(traces),
        stacks=stacks.table(),
        settings=settings,
        settings_text=text,
        annotations=annotations,
        marks=marks.texts(),
        unknown_actions=dict(unknown),
        exported_from=exported_from,
    )


def _exported_from(raw: Raw) -> str:
    return visible(raw, longest=_LONGEST_KIND) if type(raw) is str else ""


class Marks:
    """Counts contradictions by kind and keeps the first place of each."""

    def __init__(self) -> None:
        """None found yet."""
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, where: str, count: int = 1) -> None:
        """One more of a kind."""
        self._counts[what] += count
        self._first.setdefault(what, where)

    def texts(self) -> tuple[str, ...]:
        """One line per kind."""
        return tuple(
            f"{count} × {what}{f' (first: {self._first[what]})' if self._first[what] else ''}"
            for what, count in self._counts.items()
        )


def _check_sharing(raw: dict[str, Raw], name: str, file_bytes: int) -> None:
    """Refuse parts that occur again by reference: a small file could otherwise stand for endless work."""
    traces = [trace for trace in raw["device_traces"] if trace]
    blocks = [s.get("blocks") for s in raw["segments"] if type(s) is dict]
    lists = [part for part in (*traces, *blocks) if type(part) is list and part]
    if len({id(part) for part in lists}) < len(lists) or len(raw["device_traces"]) > 4096:
        raise RecordingError(f"{name}: devices or segments share one list; it is no genuine snapshot")
    if sum(map(len, lists)) > file_bytes:
        raise RecordingError(f"{name}: it repeats its entries by reference; it is no genuine snapshot")


def _read_trace(entries: Raw, where: str, stacks: StackTable, unknown: Counter[str]) -> Trace:
    """One device's history; the entries are dropped as they are read."""
    if type(entries) is not list:
        raise RecordingError(f"{where}: its trace is a {type(entries).__name__}, not a list; the file is damaged")
    parts, pools = [], PoolTable(where)
    for start in range(0, len(entries), _CHUNK):
        chunk = entries[start : start + _CHUNK]
        entries[start : start + _CHUNK] = [None] * len(chunk)
        parts.append([*_read_chunk(chunk, start, where, stacks, unknown), pools.numbers(chunk)])
    if not parts:
        return _no_trace()
    action, address, size, stream, time, stack, pool = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trace(action, address, size, stream, time, stack, pool, pools.ids())


def _no_trace() -> Trace:
    """The history of a device of which none was recorded."""
    nothing = np.zeros(0, np.int64)
    return Trace(nothing, nothing, nothing, nothing, nothing, nothing, nothing)


class PoolTable:
    """Collects the pools that a trace's entries name."""

    def __init__(self, where: str) -> None:
        """None met yet; ``where`` is for the message."""
        self._where = where
        self._numbers: dict[PoolId, int] = {}

    def numbers(self, chunk: list[dict[str, Raw]]) -> Integers:
        """Each entry's number in `ids`; `UNKNOWN` where it names none, as in files of older versions."""
        found = np.array([self._number(entry.get("pool_id")) for entry in chunk], np.int64)
        if len(self._numbers) > _MOST_POOLS:
            raise RecordingError(f"{self._where}: it names over {_MOST_POOLS} memory pools; it is no genuine snapshot")
        return found

    def ids(self) -> tuple[PoolId, ...]:
        """The pools in the order of their numbers."""
        return tuple(self._numbers)

    def _number(self, raw: Raw) -> int:
        pool = read_pool(raw)
        return UNKNOWN if pool is None else self._numbers.setdefault(pool, len(self._numbers))


def _read_chunk(chunk: list[Raw], start: int, where: str, stacks: StackTable, unknown: Counter[str]) -> list[Integers]:
    if set(map(type, chunk)) != {dict}:
        raise RecordingError(f"{where}: trace entries from {start} on are not all dicts; the file is damaged")
    action = _actions(chunk, unknown)
    place = ~np.isin(action, _NEEDS_NO_PLACE)
    address = _column(chunk, "addr", -1, where, start)
    address = np.where(action == Action.OOM, _column(chunk, "device_free", -1, where, start), address)
    size = _column(chunk, "size", -1, where, start)
    _require_sound(address[place], "addr", where, start)
    _require_sound(size[place], "size", where, start)
    stream = _column(chunk, "stream", 0, where, start)
    time = _column(chunk, "time_us", UNKNOWN, where, start)
    stack = np.array([stacks.number(entry.get("frames")) for entry in chunk], np.int64)
    return [action, address, size, stream, time, stack]


def _actions(chunk: list[dict[str, Raw]], unknown: Counter[str]) -> Integers:
    """The entries' kinds; unknown ones are counted under their names, at most a few different ones."""
    codes = np.empty(len(chunk), np.int64)
    for index, entry in enumerate(chunk):
        action = entry.get("action")
        code = _ACTIONS.get(action) if type(action) is str else None
        if code is None:
            name = repr(action)[:40] if type(action) is str else "without a name"
            unknown[name if name in unknown or len(unknown) < _MOST_NAMES else "of other names"] += 1
            code = Action.OTHER
        codes[index] = code
    return codes


def _column(chunk: list[dict[str, Raw]], key: str, default: int, where: str, start: int) -> Integers:
    values = [entry.get(key, default) for entry in chunk]
    if set(map(type, values)) != {int}:
        raise RecordingError(f"{where}: '{key}' of trace entries from {start} on is not always a whole number; damaged")
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise RecordingError(f"{where}: '{key}' of trace entries from {start} on exceeds 64 bits; damaged") from None


def _require_sound(values: Integers, key: str, where: str, start: int) -> None:
    if len(values) and not (values.min() >= 0 and values.max() < MOST_BYTES):
        raise RecordingError(f"{where}: '{key}' of trace entries from {start} on is missing or out of range; damaged")


def _settings(raw: dict[str, Raw], marks: Marks) -> tuple[AllocatorSettings, str]:
    settings, text, problems = read_settings(raw.get("allocator_settings"))
    for problem in problems:
        marks.add(f"its allocator settings are not understood: {problem}", "")
    return settings, text


def _check_devices(segments: tuple[Any, ...], traces: list[Trace], marks: Marks) -> None:
    for segment in segments:
        if segment.device >= len(traces):
            marks.add("segments belong to a device that the traces do not have", f"device {segment.device}")
    for device, trace in enumerate(traces):
        times = trace.time_us[trace.time_us != UNKNOWN]
        # events of several threads are stamped before they queue for the lock: a second back is no such thing
        if len(times) and np.any(np.diff(times) < -1_000_000):
            marks.add("trace times run backwards", f"device {device}")


def _read_annotations(raw: Raw) -> tuple[Annotation, ...]:
    """The program's own intervals; anything of another shape is left out, for no figure rests on them."""
    found = []
    for entry in raw if type(raw) is list else []:
        if type(entry) is not dict:
            continue
        device, time, name = entry.get("device"), entry.get("time_us"), entry.get("name")
        if type(device) is int and type(time) is int and type(name) is str:
            found.append(Annotation(device, time, name, entry.get("stage") == "START"))
    return tuple(found)
