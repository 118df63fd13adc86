"""Recording the passes of a comparison: every measurement in a fresh child, joined into one recording per pass."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from vramscope.errors import MemoryExhaustedError, NothingToTrainError, VramscopeError
from vramscope.recorders.joining import with_host, with_lines
from vramscope.recorders.samples import HostSamples
from vramscope.recording.file import read_recording, write_recording
from vramscope.recording.recording import Recording
from vramscope.workloads.requests import Child, Request, Role, children

PASSES = ("inference", "training")


@dataclass(frozen=True)
class RecordingPlan:
    """What to record of a target, and with which of the measurements that need a run of their own."""

    target: str
    options: Mapping[str, Any]
    lines: bool = True
    host: bool = True
    echo: bool = False

    @property
    def roles(self) -> tuple[Role, ...]:
        """The children of each pass, the main one first."""
        further = ((Role.LINES,) if self.lines else ()) + ((Role.RSS, Role.PYTHON_HEAP) if self.host else ())
        return (Role.EVENTS, *further)


def record_passes(
    plan: RecordingPlan, passes: Sequence[str], progress: Callable[[str, Role, str], None]
) -> dict[str, Recording]:
    """The recording of each pass that there is: a model without parameters to train has inference alone.

    Args:
        plan: what to record.
        passes: names of passes.
        progress: told pass, role and what is happening.

    Raises:
        VramscopeError: as `Child.run`.
    """
    with tempfile.TemporaryDirectory(prefix="vramscope-") as folder:
        requests = [
            Request(plan.target, name, role, plan.options, Path(folder) / f"{name}-{role}")
            for name in passes
            for role in plan.roles
        ]
        with children(requests, plan.echo) as started:
            return passes_there_are(
                passes, lambda name: _record_pass(plan, name, islice(started, len(plan.roles)), progress)
            )


def passes_there_are(names: Sequence[str], record: Callable[[str], Recording]) -> dict[str, Recording]:
    """The recording of each pass; where the model has nothing to train, those before training, whose notes say so.

    Raises:
        NothingToTrainError: training comes first, or nothing else was asked for.
    """
    recordings: dict[str, Recording] = {}
    for name in names:
        try:
            recordings[name] = record(name)
        except NothingToTrainError as error:
            if not recordings:
                raise
            return {done: recording.with_notes(str(error)) for done, recording in recordings.items()}
    return recordings


def _record_pass(
    plan: RecordingPlan, name: str, started: Iterable[Child], progress: Callable[[str, Role, str], None]
) -> Recording:
    outputs: dict[Role, Path] = {}
    for child in started:
        role = child.request.role
        outputs[role] = child.request.output
        try:
            child.run(partial(progress, name, role))
        except MemoryExhaustedError as error:
            if role is not Role.LINES:
                error.recording = _kept(outputs[role], name, _failing_lines(child.request, plan))
            raise
    recording = read_recording(outputs[Role.EVENTS])
    recording = replace(recording, environment={**recording.environment, "command": sys.argv})  # not the child's own
    if plan.host:
        recording = with_host(recording, _samples(outputs[Role.RSS]), _samples(outputs[Role.PYTHON_HEAP]))
    if plan.lines:
        recording = with_lines(recording, read_recording(outputs[Role.LINES]))
    return recording


def _failing_lines(request: Request, plan: RecordingPlan) -> Path | None:
    """The same pass with lines, up to where memory runs out again; None where it does not, or is not wanted."""
    again = replace(request, role=Role.LINES, output=request.output.with_name(f"{request.pass_name}-{Role.LINES}"))
    if not plan.lines:
        return None
    try:
        with Child(again, plan.echo) as child:
            child.run(lambda text: None)
    except MemoryExhaustedError:
        return again.output
    except VramscopeError:  # the first failure is the one to report
        return None
    return None


def _kept(output: Path, name: str, lines: Path | None) -> Path:
    """Where the recording of a pass that ran out of memory lies when this process is over."""
    target = Path(tempfile.mkdtemp(prefix="vramscope-out-of-memory-")) / f"{name}.vram"
    recording = read_recording(output)
    write_recording(recording if lines is None else with_lines(recording, read_recording(lines)), target)
    return target


def _samples(path: Path) -> HostSamples:
    return HostSamples.from_json(path.read_text(encoding="utf-8"))
