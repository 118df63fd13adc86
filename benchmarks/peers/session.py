"""A training loop of one workload, and what its memory truly is: the allocator's own total, read without vramscope."""

import gc
import time
from collections.abc import Iterator
from typing import Any

import torch._dynamo  # noqa: F401 - the first optimizer imports it, and no tool shall be charged with that
from torch import Tensor
from torch._C._profiler import _EventType
from torch.autograd.profiler import profile

from benchmarks.live import storages, tensors_within
from vramscope.workloads.steps import NoPhases, Phases, training_step
from vramscope.workloads.workload import PreparedWorkload


class Session:
    """A model with its optimizer, one cold step behind it: what a tool finds when it is turned on."""

    def __init__(self, prepared: PreparedWorkload) -> None:
        self.prepared = prepared
        self.optimizers = self.prepared.build_optimizers()
        self.step()
        self._settle()

    def step(self, phases: Phases | None = None) -> float:
        """One training step; how long it took, in seconds."""
        begin = time.perf_counter()
        training_step(self.prepared, self.optimizers, phases or NoPhases())
        return time.perf_counter() - begin

    def _settle(self) -> None:
        """Drop gradients and garbage, so that the next step begins with what it needs alone."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        gc.collect()

    @property
    def inputs(self) -> list[Tensor]:
        """The workload's own tensors."""
        return [tensor for _, tensor in self.prepared.input_tensors()]

    def live_bytes(self) -> int:
        """Bytes of everything that is alive between two steps."""
        model = self.prepared.model
        state = tensors_within([list(optimizer.state.values()) for optimizer in self.optimizers])
        return sum(storages([*model.parameters(), *model.buffers(), *state, *self.inputs]).values())

    def true_peak_bytes(self) -> int:
        """The peak of a step by the allocator's own running total, counted from what is alive before it."""
        alive = self.live_bytes()
        with profile(profile_memory=True, use_kineto=True) as running:
            self.step()
        events = [node.extra_fields for node in allocations(running.kineto_results.experimental_event_tree())]
        start = events[0].total_allocated - events[0].alloc_size
        return alive + max(facts.total_allocated for facts in events) - start


def allocations(roots: Any) -> list[Any]:
    """Every allocation event of an event tree, in the order of time."""
    return sorted(
        (node for node in _every(roots) if node.tag == _EventType.Allocation), key=lambda node: int(node.start_time_ns)
    )


def _every(roots: Any) -> Iterator[Any]:
    pending = list(roots)
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.children)
