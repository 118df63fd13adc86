"""Joining what further runs of the same pass have measured to the main run's recording.

Runs are joined by what happened in them, never by the clock. What finds no partner is counted and said in a note.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vramscope.recorders.boundaries import align, boundaries
from vramscope.recorders.counters import with_counters
from vramscope.recorders.line_joining import with_lines
from vramscope.recorders.samples import HostSamples
from vramscope.recording.recording import HostCounter, Integers, Recording

__all__ = ["boundaries", "with_host", "with_lines"]

_MAIN_DEVICE = 0
_HOST_FACTS = "host"
"""The key of the environment under which methods and remarks about host memory stand."""


def with_host(recording: Recording, rss: HostSamples | None, heap: HostSamples | None) -> Recording:
    """The recording with host memory at its boundaries, as counters in bytes.

    ``rss_before`` stands at the first moment of the recording. ``rss_peak`` and ``python_heap_peak`` stand at the
    boundaries that both runs passed; each is the highest value since the previous counter of that name. The Python heap
    counts from its size before the model was built.

    Args:
        recording: the main run.
        rss: samples of a run that measured RSS.
        heap: samples of a run that measured the Python heap.
    """
    labels, times = boundaries(recording)
    for samples, name in ((rss, HostCounter.RSS_PEAK), (heap, HostCounter.PYTHON_HEAP_PEAK)):
        if samples is not None:
            recording = _with_samples(recording, samples, name, labels, times)
    if rss is not None:
        recording = _with_counters(
            recording, HostCounter.RSS_BEFORE, _first_moment(recording), np.array([rss.before_bytes])
        )
    return recording


def _with_samples(
    recording: Recording, samples: HostSamples, name: HostCounter, labels: Sequence[str], times: Integers
) -> Recording:
    """The recording with one run's samples, and a note if that run passed other boundaries."""
    own_places, their_places = align(labels, samples.labels)
    peaks = _peaks_between(samples.peak_bytes, their_places)
    if name is HostCounter.PYTHON_HEAP_PEAK:
        peaks = peaks - samples.before_bytes
    recording = _with_counters(recording, name, times[own_places], peaks)
    missing, extra = len(labels) - len(own_places), len(samples.labels) - len(their_places)
    return _with_method(recording, samples, _remark(samples, missing, extra))


def _peaks_between(peak_bytes: Integers, places: Integers) -> Integers:
    """The peak at each place since the place before: samples at boundaries without a partner are not lost."""
    if not len(places):
        return np.empty(0, dtype=np.int64)
    starts = np.append(0, places[:-1] + 1)
    peaks: Integers = np.maximum.reduceat(peak_bytes[: places[-1] + 1], starts)
    return peaks


def _remark(samples: HostSamples, missing: int, extra: int) -> tuple[str, ...]:
    """What to say of boundaries that only one of two runs passed."""
    if not missing and not extra:
        return ()
    return (
        f"host memory ({samples.kind}): {missing} boundaries of steps, phases and modules were not passed in the run "
        f"that measured it, and {extra} only there; the workload differs from run to run, and so may its host memory",
    )


def _with_method(recording: Recording, samples: HostSamples, remarks: tuple[str, ...]) -> Recording:
    """The recording with a word on how host memory was measured."""
    facts = recording.environment.get(_HOST_FACTS, {"methods": {}, "notes": []})
    facts = {
        "methods": {**facts["methods"], str(samples.kind): samples.method},
        "notes": [*facts["notes"], *remarks],
    }
    return replace(recording, environment={**recording.environment, _HOST_FACTS: facts}).with_notes(*remarks)


def _with_counters(recording: Recording, name: HostCounter, times: Integers, values: Integers) -> Recording:
    """The recording with further counters of one name."""
    samples = zip(times.tolist(), values.tolist(), strict=True)
    return with_counters(recording, [(time_ns, str(name), _MAIN_DEVICE, value) for time_ns, value in samples])


def _first_moment(recording: Recording) -> Integers:
    """[1] the earliest time in the recording, 0 if it is empty."""
    columns = (recording.scopes.start_ns, recording.events.time_ns, recording.marks.time_ns)
    earliest = min((int(column.min()) for column in columns if len(column)), default=0)
    return np.array([earliest], dtype=np.int64)
