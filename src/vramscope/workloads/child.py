"""The child process that runs one pass: ``python -m vramscope.workloads.child REQUEST PIPE``.

Speaks JSON lines on the pipe. It cannot be interrupted until it is told to go: the parent ends whoever waits.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # loading torch makes half a million objects and nothing to collect; `main` enables it

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from vramscope.collector import leave, loading
from vramscope.errors import MemoryExhaustedError
from vramscope.recorders.devices import recorded_device
from vramscope.recorders.host import HostRecorder
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.samples import HostKind
from vramscope.recording.file import write_recording
from vramscope.workloads.passes import PassName, PassOutOfMemoryError, load_for, run_pass
from vramscope.workloads.processes import INTERRUPTED, allow_interrupts, begin_child, failure_of, read_nothing
from vramscope.workloads.requests import GO, Request, Role
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions


def main() -> int:
    """Run the request in ``sys.argv[1]`` once told to, and reply; the exit code is 0 whenever there was a reply."""
    replies = os.fdopen(begin_child(), "w", encoding="utf-8")
    request = Request.from_json(json.loads(sys.argv[1]))
    try:
        with loading():
            load_for(request.pass_name)
        gc.enable()
        if _is_told_to_go():
            _run(request, lambda text: _reply(replies, progress=text))
            _reply(replies, done=True)
    except PassOutOfMemoryError as exhausted:
        _reply(replies, **{**failure_of(exhausted.error), "kind": MemoryExhaustedError.__name__})
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - what is no error of the workload's is a defect, which the parent reports
        _reply(replies, **failure_of(error))
    return 0


def _is_told_to_go() -> bool:
    """Wait until the parent wants this child to run; not if it is gone. The workload finds nothing to read."""
    told = os.read(0, len(GO))
    allow_interrupts()
    read_nothing()
    return bool(told)


def _reply(replies: TextIO, **message: Any) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _run(request: Request, progress: Callable[[str], None]) -> None:
    options = WorkloadOptions.from_json({**request.options, "device": str(recorded_device(request.options["device"]))})
    target = resolve(request.target)
    name = PassName(request.pass_name)
    if request.role in (Role.EVENTS, Role.LINES):
        recorder = _recorder(options, request.role)
        try:
            recording = run_pass(target, options, name, recorder, progress)
        except PassOutOfMemoryError as exhausted:
            write_recording(exhausted.result, request.output)
            raise
        write_recording(recording, request.output)
    else:
        kind = HostKind.RSS if request.role == Role.RSS else HostKind.PYTHON_HEAP
        samples = run_pass(target, options, name, HostRecorder(kind), progress)
        request.output.write_text(samples.to_json(), encoding="utf-8")


def _recorder(options: WorkloadOptions, role: Role) -> ProfilerRecorder:
    """The main run keeps a GPU allocator's history; lines are traced in a run of their own."""
    return ProfilerRecorder(
        options.torch_device, lines=role == Role.LINES, history=role == Role.EVENTS, own_process=True
    )


if __name__ == "__main__":
    code = main()
    leave()
    sys.exit(code)
