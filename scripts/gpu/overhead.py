"""What recording costs: one training step unprofiled, under vramscope, and under the allocator's own history."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from report import Report

from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.workloads.steps import NoPhases, training_step
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

ROUNDS = 7


def measure(report: Report, found: dict[str, Any]) -> None:
    """Medians over rounds that interleave the ways, so that a slow spell meets all of them."""
    device = torch.device(report.device, 0) if report.on_gpu else torch.device("cpu")
    target, batch = ("gpt2", 16) if report.on_gpu else ("mlp", 8)
    prepared = resolve(target).prepare(WorkloadOptions(device=str(device), batch=batch), training=True)
    optimizers = prepared.build_optimizers()

    def step(phases: Any) -> float:
        _wait(device)
        begin = time.perf_counter()
        training_step(prepared, optimizers, phases)
        _wait(device)
        return time.perf_counter() - begin

    def recorded(history: bool) -> Callable[[], float]:
        def run() -> float:
            recorder = ProfilerRecorder(device, history=history)
            recorder.start()
            try:
                recorder.watch(prepared.model)
                with recorder.step(0):
                    return step(recorder)
            finally:
                recorder.abandon()

        return run

    ways: dict[str, Callable[[], float]] = {"unprofiled": lambda: step(NoPhases()), "vramscope": recorded(False)}
    if report.on_gpu:
        ways["vramscope with history"] = recorded(True)
        ways["_record_memory_history alone"] = lambda: _history(step)
    for run in ways.values():
        run()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(ROUNDS if report.on_gpu else 2):
        if not report.has_time():
            break
        for name in order:
            seconds[name].append(ways[name]())
        order.append(order.pop(0))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    found["workload"] = f"{target}, batch {batch}, training step, {report.device}"
    found["milliseconds"] = {name: round(1000 * value, 3) for name, value in medians.items()}
    found["ratio"] = {name: round(value / medians["unprofiled"], 4) for name, value in medians.items()}


def _history(step: Callable[[Any], float]) -> float:
    torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=1_000_000)
    try:
        return step(NoPhases())
    finally:
        torch.cuda.memory._record_memory_history(None)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
