"""One window of a script's run as a comparison of its passes, for the views that draw every event."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from vramscope.errors import UsageError
from vramscope.ledger.comparison import Comparison, RunWindow, compare_recordings
from vramscope.recording.merge import merge
from vramscope.recording.parts import Part
from vramscope.recording.recording import Recording

MOST_EVENTS = 2_000_000
"""Their ledger takes about a gigabyte; a picture shows no more of them anyway."""


def compare_window(parts: Iterable[Part], number: int) -> Comparison:
    """The passes of window ``number``; of a pass that the script came back to, its longest stretch.

    Raises:
        UsageError: there is no such window, or it has more events than one ledger should hold.
    """
    stretches = _stretches(_of_window(parts, number))
    comparison = compare_recordings({name: merge(stretch) for name, stretch in stretches.items()})
    steps = [step.value for ledger in comparison.ledgers.values() for step in ledger.steps]
    return replace(comparison, window=RunWindow(number, min(steps), max(steps)) if steps else None)


def last_window(parts: Iterable[Part]) -> Recording:
    """The parts of the last window as one recording: windows do not join up, and one ledger holds one of them."""
    window: list[Part] = []
    for part in parts:
        if window and part.window != window[-1].window:
            window.clear()
        window.append(part)
    return merge(window)


def _of_window(parts: Iterable[Part], number: int) -> list[Part]:
    found: list[Part] = []
    windows: set[int] = set()
    events = 0
    for part in parts:
        if found and part.window > number:
            break
        size = len(part.recording.events)
        if not size and not len(part.recording.scopes):
            continue  # counters only
        windows.add(part.window)
        if part.window == number:
            found.append(part)
            events += size
        if events > MOST_EVENTS:
            raise UsageError(
                f"window {number} has more than {MOST_EVENTS:,} events, too many for this format: record fewer steps "
                "with --steps FIRST:LAST, or choose terminal, json or csv, which read it step by step"
            )
    if not found:
        there = f"windows {', '.join(map(str, sorted(windows)))}" if windows else "none: its steps were only counted"
        raise UsageError(f"--window {number}: the recording has {there}")
    return found


def _stretches(parts: list[Part]) -> dict[str, list[Part]]:
    """Consecutive parts of one pass, the longest stretch of each."""
    longest: dict[str, list[Part]] = {}
    for name, group in groupby(parts, lambda part: str(part.recording.workload.get("pass", ""))):
        stretch = list(group)
        if len(stretch) > len(longest.get(name, ())):
            longest[name] = stretch
    return longest
