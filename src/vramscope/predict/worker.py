"""A process that predicts: ``python -m vramscope.predict.worker PASS``. It answers one request after another.

Requests and replies are pickled, on what were its standard input and output; what the workload prints goes to standard
error, and it finds nothing to read.
"""

import gc
import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it, without a word
    gc.disable()  # as in `vramscope.workloads.child`

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vramscope.collector import leave, loading
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import Gpu
from vramscope.predict.remedies import Plan
from vramscope.predict.scores import expected_error, kind_of, read_scores
from vramscope.predict.search import Need
from vramscope.workloads.passes import load_for
from vramscope.workloads.processes import failure_of


def main() -> None:
    """Answer until nobody asks any more."""
    requests, replies = _take_standard_streams()
    sys.path.insert(0, str(Path.cwd()))
    with loading():
        load_for(sys.argv[1])
    gc.enable()
    with suppress(EOFError, BrokenPipeError):
        while True:
            plan, gpu = pickle.load(requests)
            reply: dict[str, Any]
            try:
                reply = {"need": _need(plan, gpu)}
            except Exception as error:  # noqa: BLE001 - the workload's, or a defect: the parent tells them apart
                reply = failure_of(error)
            pickle.dump(reply, replies)
            replies.flush()


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _need(plan: Plan, gpu: Gpu) -> Need:
    passes = predict_passes(plan.target, plan.options, gpu, (plan.name,), plan.settings, setup=plan.setup)
    recording = passes[plan.name]
    use = gpu_use(recording, gpu)
    error = f"expected error: {expected_error(kind_of(recording), read_scores())}"
    return Need(use.allocated_bytes, use.reserved_bytes, use.process_bytes[1], (*recording.notes, error))


if __name__ == "__main__":
    main()
    leave()
