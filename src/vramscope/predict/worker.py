"""A process that predicts: ``python -m vramscope.predict.worker PASS PIPE``. It answers one request after another.

Requests and replies are pickled, on its standard input and on the pipe.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # as in `vramscope.workloads.child`

import os
import pickle
import sys
from typing import Any, BinaryIO, NoReturn

from vramscope.collector import loading
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import Gpu
from vramscope.predict.remedies import Plan
from vramscope.predict.scores import expected_error, kind_of, read_scores
from vramscope.predict.search import Need
from vramscope.workloads.passes import load_for
from vramscope.workloads.processes import INTERRUPTED, allow_interrupts, begin_child, failure_of, read_nothing


def main() -> int:
    """Answer until nobody asks any more; gives the exit code."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(begin_child(), "wb")
    read_nothing()
    with loading():
        load_for(sys.argv[1])
    gc.enable()
    try:
        allow_interrupts()
        _answer(requests, replies)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (EOFError, BrokenPipeError):
        return 0


def _answer(requests: BinaryIO, replies: BinaryIO) -> NoReturn:
    while True:
        plan, gpu = pickle.load(requests)
        reply: dict[str, Any]
        try:
            reply = {"need": _need(plan, gpu)}
        except Exception as error:  # noqa: BLE001 - the workload's, or a defect: the parent tells them apart
            reply = failure_of(error)
        pickle.dump(reply, replies)
        replies.flush()


def _need(plan: Plan, gpu: Gpu) -> Need:
    passes = predict_passes(plan.target, plan.options, gpu, (plan.name,), plan.settings, setup=plan.setup)
    recording = passes[plan.name]
    use = gpu_use(recording, gpu)
    error = f"expected error: {expected_error(kind_of(recording), read_scores())}"
    return Need(use.allocated_bytes, use.reserved_bytes, use.process_bytes[1], (*recording.notes, error))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the workload's own would keep it
