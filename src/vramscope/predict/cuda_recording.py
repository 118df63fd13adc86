"""A virtual recording as the CUDA allocator would have served it: at its addresses, in its sizes, with its totals."""

from dataclasses import dataclass, replace

import numpy as np

from vramscope.allocator.settings import AllocatorSettings
from vramscope.allocator.simulator import Simulator
from vramscope.predict.gpus import Gpu
from vramscope.recording.recording import (
    Counters,
    Device,
    Events,
    MarkKind,
    Marks,
    PhaseName,
    Recording,
    ScopeKind,
)

_LIVES_ON = (MarkKind.PARAMETER, MarkKind.BUFFER, MarkKind.INPUT, MarkKind.OPTIMIZER_STATE)


@dataclass
class _Allocator:
    """Serves events one by one; ``where`` maps the address of a virtual block to that of its CUDA block."""

    simulator: Simulator
    where: dict[int, int]

    def serve(self, address: int, size: int) -> tuple[int, int, int, int] | None:
        """Address, signed block size and both totals after an event; None for the free of a block not served."""
        totals = self.simulator.totals
        if size > 0:
            own = self.where[address] = self.simulator.malloc(size)
            return own, self.simulator.in_use[own].size, totals.allocated, totals.reserved
        found = self.where.pop(address, None)
        if found is None:
            return None
        block = self.simulator.in_use[found].size
        self.simulator.free(found)
        return found, -block, totals.allocated, totals.reserved


def on_cuda(recording: Recording, gpu: Gpu, settings: AllocatorSettings | None = None) -> Recording:
    """The recording on a GPU, whose memory is not bounded here.

    What the model is built from stays on the host: only parameters, buffers and inputs move, in the order in which they
    were made, as ``module.to("cuda")`` moves them; state that an optimizer makes when it is made (Adagrad) follows.

    Args:
        recording: of fake tensors, by CUDA's rules.
        gpu: names the device.
        settings: the allocator's.
    """
    events = _without_build(recording)
    allocator = _Allocator(Simulator(settings), {})
    rows: list[tuple[int, ...]] = []
    marks = recording.marks.take(np.argsort(recording.marks.time_ns, kind="stable"))
    addresses = np.zeros(len(marks), dtype=np.int64)
    next_mark, times = 0, marks.time_ns.tolist()
    for time_ns, address, size, scope in zip(
        events.time_ns.tolist(), events.address.tolist(), events.size.tolist(), events.scope.tolist(), strict=True
    ):
        while next_mark < len(times) and times[next_mark] < time_ns:
            addresses[next_mark] = allocator.where.get(int(marks.address[next_mark]), 0)
            next_mark += 1
        served = allocator.serve(address, size)
        if served is not None:
            rows.append((time_ns, served[0], served[1], size, 0, scope, served[2], served[3]))
    for row in range(next_mark, len(times)):
        addresses[row] = allocator.where.get(int(marks.address[row]), 0)
    placed = replace(marks, address=addresses).take(addresses != 0)
    return _moved(recording, Events.from_rows(rows), placed, gpu)


def _moved(recording: Recording, events: Events, marks: Marks, gpu: Gpu) -> Recording:
    end = int(events.total[-1]) if len(events) else 0
    device = Device("cuda:0", f"{gpu.title} (predicted)", 0, end)
    return replace(
        recording,
        events=events,
        marks=marks,
        counters=Counters.from_rows([]),
        devices=(device,),
        workload={**recording.workload, "device": "cuda:0"},
    )


def _without_build(recording: Recording) -> Events:
    """Events without those of the build phase, except the births of what outlives it and moves to the GPU."""
    events, scopes = recording.events, recording.scopes
    builds = [
        row
        for row in np.flatnonzero(scopes.kind == ScopeKind.PHASE).tolist()
        if recording.strings[int(scopes.name[row])] == PhaseName.BUILD
    ]
    if not builds:
        return events
    end = int(scopes.end_ns[builds[-1]])
    marks = recording.marks
    moved = set(marks.address[np.isin(marks.kind, _LIVES_ON)].tolist())
    keep = events.time_ns > end
    built = _alive(events.take(~keep))
    keep[[row for address, row in built.items() if address in moved]] = True
    return events.take(keep)


def _alive(events: Events) -> dict[int, int]:
    """The row of the birth of every block that is alive after the last event, by its address."""
    alive: dict[int, int] = {}
    for row, (address, size) in enumerate(zip(events.address.tolist(), events.size.tolist(), strict=True)):
        if size > 0:
            alive[address] = row
        else:
            alive.pop(address, None)
    return alive
