"""Host memory at the moment at which it was highest: tensors, Python heap, and what native code took besides."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.counters import counter_rows
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.moments import innermost, inside_steps
from vramscope.ledger.periods import Window
from vramscope.recording.recording import HostCounter, Integers, ScopeKind

_MAIN_DEVICE = 0
"""The device that the process's own counters stand under, whichever it is."""
NO_HEAP = "the Python heap was not measured: its bytes are part of the native remainder"


@dataclass(frozen=True)
class HostSummary:
    """A process's memory in that stretch between two boundaries in which its RSS was highest; bytes.

    Tensors, Python heap and native remainder always add up to ``rss_peak_bytes - rss_before_bytes``. The remainder is
    what native code allocates outside torch's allocator, library code paged in, and freed memory that the C library has
    not returned. It is negative where tensors were never touched: they take no RSS.
    """

    rss_before_bytes: int
    rss_peak_bytes: int
    tensor_bytes_at_peak: int
    python_heap_bytes_at_peak: int
    native_remainder_bytes: int
    phase: str | None
    module: str
    methods: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Stretch:
    """The time between two boundaries."""

    start_ns: int
    end_ns: int


def host_summary(ledger: Ledger, first: int = 0, last: int | None = None) -> HostSummary | None:
    """Host memory at its highest during the steps of a window, None where it was not measured.

    Args:
        ledger: of a recording that carries samples of host memory.
        first: first event of the window.
        last: the event after the window's last one.
    """
    times, peaks = _counter(ledger, HostCounter.RSS_PEAK)
    _, before = _counter(ledger, HostCounter.RSS_BEFORE)
    starts = _starts(ledger, times)
    inside = np.flatnonzero(inside_steps(ledger, starts, times, first, len(ledger) if last is None else last))
    if not len(inside) or not len(before):
        return None
    top = int(inside[np.argmax(peaks[inside])])
    return _summary(ledger, _Stretch(int(starts[top]), int(times[top])), int(before[0]), int(peaks[top]))


def _summary(ledger: Ledger, stretch: _Stretch, before_bytes: int, peak_bytes: int) -> HostSummary:
    tensor_bytes = _tensor_bytes(ledger, stretch)
    heap_bytes = _heap_bytes(ledger, stretch)
    facts = ledger.recording.environment.get("host", {})
    return HostSummary(
        rss_before_bytes=before_bytes,
        rss_peak_bytes=peak_bytes,
        tensor_bytes_at_peak=tensor_bytes,
        python_heap_bytes_at_peak=heap_bytes or 0,
        native_remainder_bytes=peak_bytes - before_bytes - tensor_bytes - (heap_bytes or 0),
        phase=innermost(ledger.recording, ScopeKind.PHASE, stretch.start_ns, stretch.end_ns),
        module=innermost(ledger.recording, ScopeKind.MODULE, stretch.start_ns, stretch.end_ns) or "",
        methods=dict(facts.get("methods", {})),
        notes=(*facts.get("notes", ()), *((NO_HEAP,) if heap_bytes is None else ())),
    )


def _counter(ledger: Ledger, name: HostCounter) -> tuple[Integers, Integers]:
    """Times and values of a counter, in order of time."""
    counters, rows = ledger.recording.counters, counter_rows(ledger.recording, name, _MAIN_DEVICE)
    return counters.time_ns[rows], counters.value[rows]


def _starts(ledger: Ledger, times: Integers) -> Integers:
    """When the stretch that each sample covers began: at the sample before, or with the recording."""
    began, _ = _counter(ledger, HostCounter.RSS_BEFORE)
    return np.append(began[:1], times)[: len(times)]


def _tensor_bytes(ledger: Ledger, stretch: _Stretch) -> int:
    """The CPU allocator's highest total within a stretch, what was there at its beginning included."""
    names = [device.name for device in ledger.recording.devices]
    if "cpu" not in names:
        return 0
    times = ledger.recording.events.time_ns
    begin = int(np.searchsorted(times, stretch.start_ns, side="left"))
    end = int(np.searchsorted(times, stretch.end_ns, side="right"))
    return ledger.peak(Window(begin, end, stretch.start_ns), names.index("cpu")).bytes


def _heap_bytes(ledger: Ledger, stretch: _Stretch) -> int | None:
    """The Python heap's peak in a stretch, from the samples that cover it; None without any."""
    times, peaks = _counter(ledger, HostCounter.PYTHON_HEAP_PEAK)
    begin = int(np.searchsorted(times, stretch.start_ns, side="right"))
    end = int(np.searchsorted(times, stretch.end_ns, side="left")) + 1  # the first one that is not before the end
    return int(peaks[begin:end].max()) if len(peaks[begin:end]) else None
