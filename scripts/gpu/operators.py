"""What single operators allocate, forward and backward, beside what is predicted of them, event by event."""

import json
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate, groupby
from typing import Any

import torch
from operator_cases import CASES, CUDNN, DIFFERS, SIZES, Make, Run
from predictions import gpu_name
from report import Report
from torch import Tensor

AT_ONCE = 100
"""Cases that are predicted before they are measured; between them the time is looked at."""
Events = list[int]
"""Requested bytes of blocks in order, negative as they are freed."""
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
"""Of autocast; None for none."""


def names() -> list[str]:
    """Every case of every size and type; cuDNN convolves bfloat16 only where the GPU itself knows it."""
    halves = torch.cuda.is_bf16_supported(including_emulation=False)
    return [
        f"{case}, {rows} x {columns}, {dtype}"
        for case in CASES
        for rows, columns in SIZES
        for dtype in DTYPES
        if halves or dtype == "float32" or case not in CUDNN
    ]


def prepared(name: str, device: str) -> tuple[Run, Callable[[], Any]]:
    """What a case runs, and the autocast that it runs under."""
    case, size, dtype = name.split(", ")
    rows, columns = map(int, size.split(" x "))
    torch.backends.cudnn.enabled = case in CUDNN
    run = CASES[case](Make(device, rows, columns))
    lower = DTYPES[dtype]
    return run, nullcontext if lower is None else lambda: torch.autocast(device, lower)


def twice(run: Run, context: Callable[[], Any], between: Callable[[], Any]) -> None:
    """Run forward and backward, then again after ``between``: workspaces and gradients are there by then."""
    for step in range(2):
        if step:
            between()
        with context():
            result = run()
        if isinstance(result, Tensor) and result.requires_grad:
            result.backward(torch.empty_like(result, memory_format=torch.contiguous_format))
        del result


def predicted(known: str, chosen: list[str]) -> dict[str, Events | str]:
    """By name, the events of each case's second run by the rules of a known GPU; or what was wrong, in words."""
    from vramscope.predict.cuda_kernels import cuda_kernels
    from vramscope.predict.cuda_rules import cuda_rules
    from vramscope.predict.gpus import find_gpu
    from vramscope.recorders.virtual.recorder import VirtualRecorder

    gpu = find_gpu(known)
    found: dict[str, Events | str] = {}
    recorder = VirtualRecorder(cuda_rules(gpu), keep_real=False, kernels=cuda_kernels(gpu))
    recorder.start()
    try:
        _with_workspaces("cpu")
        for name in chosen:
            begin: list[int] = []
            try:
                run, context = prepared(name, "cpu")
                twice(run, context, lambda begin=begin: begin.append(recorder.moment))
                found[name] = recorder.sizes_since(begin[0])
            except Exception as error:  # noqa: BLE001 - one case's failure must not lose the others
                found[name] = _in_words(error)
    finally:
        recorder.abandon()
    return found


def measured(chosen: list[str]) -> dict[str, Events | str]:
    """By name, the events of each case's second run by the history of torch's own allocator."""
    _with_workspaces("cuda")
    found: dict[str, Events | str] = {}
    for name in chosen:
        try:
            run, context = prepared(name, "cuda")
            twice(run, context, _record)
            found[name] = _history()
        except Exception as error:  # noqa: BLE001 - one case's failure must not lose the others
            found[name] = _in_words(error)
        finally:
            torch.cuda.memory._record_memory_history(None)
    return found


def _record() -> None:
    torch.cuda.memory._record_memory_history("all", context=None, max_entries=100_000)


def _history() -> Events:
    entries = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
    signs = {"alloc": 1, "free_completed": -1}
    return [signs[entry["action"]] * entry["size"] for entry in entries if entry["action"] in signs]


def _with_workspaces(device: str) -> None:
    """Let cuBLAS take what it keeps, on either thread."""
    square = torch.empty(8, 8, device=device, requires_grad=True)
    torch.nn.functional.linear(square, square @ square, square[0]).backward(torch.empty(8, 8, device=device))


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def peak(events: Events) -> int:
    """The most bytes at once, above what there was at first."""
    return max(accumulate(events), default=0)


def in_any_order(events: Events) -> Events:
    """The same with blocks that are freed one after another sorted: what comes after knows no difference."""
    runs = ((freed, list(run)) for freed, run in groupby(events, lambda size: size < 0))
    return [size for freed, run in runs for size in (sorted(run) if freed else run)]


def alike(one: Events | str, other: Events | str) -> bool:
    """Whether both say the same of what is allocated when."""
    return not isinstance(one, str) and not isinstance(other, str) and in_any_order(one) == in_any_order(other)


def takes_more(predicted: Events | str, measured: Events | str) -> bool:
    """Whether all that is predicted happened in that order, and what happened besides was given back in the end."""
    if isinstance(predicted, str) or isinstance(measured, str):
        return False
    waiting = deque(in_any_order(predicted))
    besides = 0
    for size in in_any_order(measured):
        if waiting and size == waiting[0]:
            waiting.popleft()
        else:
            besides += size
    return not waiting and not besides


def as_known(name: str, pair: tuple[Events | str, Events | str]) -> bool:
    """Whether a case's events are those predicted, but for what cuDNN takes for itself in its own cases."""
    return alike(*pair) or (name.split(", ")[0] in CUDNN and takes_more(*pair))


def without_cudnn_attention() -> None:
    """Let PyTorch's own kernels compute attention, which are what is predicted."""
    torch.backends.cuda.enable_cudnn_sdp(False)


def here() -> str:
    """The GPU of the table that is the one here."""
    facts = torch.cuda.get_device_properties(0)
    return gpu_name({"gpus": [{"name": facts.name, "memory_bytes": facts.total_memory}]})


def compare(report: Report, found: dict[str, Any]) -> None:
    """Every case as predicted and as measured; ``operators.json`` has both where they differ, else one."""
    if not report.on_gpu:
        found["skipped"] = "cpu: the rules are those of CUDA"
        return
    gpu, waiting = here(), deque(names())
    without_cudnn_attention()
    before: dict[str, Events | str] = {}
    after: dict[str, Events | str] = {}
    with torch.backends.cudnn.flags(enabled=True):  # each case says for itself; afterwards it is as before
        while waiting and report.has_time():
            chosen = [waiting.popleft() for _ in range(min(len(waiting), AT_ONCE))]
            before |= predicted(gpu, chosen)
            after |= measured(chosen)
    both = {name: (before[name], after[name]) for name in after if not isinstance(after[name], str)}
    differ = {name: pair for name, pair in both.items() if not alike(*pair)}
    known = [name for name, pair in differ.items() if as_known(name, pair)]
    found["gpu"], found["cases"], found["equal"] = gpu, len(both), len(both) - len(differ)
    found["equal but for what cuDNN takes"] = len(known)
    found["not run"] = {name: events for name, events in after.items() if isinstance(events, str)}
    found["peaks"] = {name: [peak(one) if not isinstance(one, str) else one for one in differ[name]] for name in differ}
    lines = [f"{json.dumps(name)}: {json.dumps(pair if name in differ else pair[1])}" for name, pair in both.items()]
    (report.folder / "operators.json").write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    if waiting:
        found["failures"] = [f"the time was over before {len(waiting)} cases, {waiting[0]} the first"]
    found["unexpected"] = [name for name in differ if name.split(", ")[0] not in DIFFERS and name not in known]
