"""What an allocation that found no memory met: who held what, what would have fitted, and what would have helped."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.blocks import Flags
from vramscope.ledger.categories import CODE, Category
from vramscope.ledger.counters import Fragments, counter_rows, fragments_at, latest_value, value_at
from vramscope.ledger.holders import HeldBlock, held_blocks
from vramscope.ledger.ledger import Composition, Ledger
from vramscope.ledger.moments import innermost
from vramscope.recording.counters import DeviceCounter, FailureCounter
from vramscope.recording.recording import DEVICE_MEMORY, PhaseName, Recording, ScopeKind

_LARGEST = 8
_REMEDIES = 3


@dataclass(frozen=True)
class Relief:
    """Something to try, what it would have left free at this moment (bytes), and how that was reckoned."""

    what: str
    saved_bytes: int
    basis: str


@dataclass(frozen=True)
class Autopsy:
    """The moment at which an allocation failed; bytes, None where nobody told.

    ``available_bytes`` is what was free around the allocator, ``fitting_bytes`` the largest request that would have
    been met, ``short_bytes`` what was missing, and ``device_bytes`` all that the device has. ``is_rounded``: the
    request and what was available are known from an error's text only, which rounds them. ``modules`` are (path,
    bytes), the largest first.
    """

    device: str
    asked_bytes: int | None
    available_bytes: int | None
    is_rounded: bool
    device_bytes: int | None
    held_bytes: int
    reserved_bytes: int | None
    phase: str | None
    module: str
    operator: str | None
    by_category: Composition
    modules: tuple[tuple[str, int], ...]
    blocks: tuple[HeldBlock, ...]
    fragments: Fragments | None
    remedies: tuple[Relief, ...]

    @property
    def is_hopeless(self) -> bool:
        """Whether the request alone is more than the device has."""
        return self.asked_bytes is not None and self.device_bytes is not None and self.asked_bytes > self.device_bytes

    @property
    def fitting_bytes(self) -> int | None:
        """The largest request that would have been met: a free block, or what a new segment could take."""
        if self.available_bytes is None:
            return None
        cached = self.fragments
        if cached is None:
            return self.available_bytes
        return max(cached.largest_free_bytes, self.available_bytes + cached.releasable_bytes)

    @property
    def short_bytes(self) -> int | None:
        """What was missing."""
        if self.asked_bytes is None or self.fitting_bytes is None:
            return None
        return max(self.asked_bytes - self.fitting_bytes, 0)


@dataclass(frozen=True)
class _Failure:
    """When it was, on which device, the last event before it, and the innermost scope around it (-1 for none)."""

    time_ns: int
    device: int
    event: int
    scope: int


def autopsy(ledger: Ledger) -> Autopsy | None:
    """The last allocation of a recording that failed; None where all were met."""
    failure = _last_failure(ledger)
    if failure is None:
        return None
    recording, blocks, lineage = ledger.recording, ledger.blocks, ledger.lineage
    alive = blocks.alive_after(failure.event) & (blocks.device == failure.device)
    held = int(blocks.size[alive].sum())
    operator = int(lineage.operator[failure.scope])
    asked, available, rounded = (value_at(recording, n, failure.device, failure.time_ns) for n in FailureCounter)
    fragments = fragments_at(recording, failure.device, failure.time_ns)
    return Autopsy(
        device=recording.devices[failure.device].name,
        asked_bytes=asked,
        available_bytes=available,
        is_rounded=bool(rounded),
        device_bytes=latest_value(recording, DEVICE_MEMORY, failure.device),
        held_bytes=held,
        reserved_bytes=_reserved(ledger, failure, held, fragments),
        phase=_phase(recording, failure),
        module=recording.strings[int(lineage.module[failure.scope])],
        operator=recording.strings[int(recording.scopes.name[operator])] if operator >= 0 else None,
        by_category=ledger.sum_by_category(alive),
        modules=_by_module(ledger, alive),
        blocks=held_blocks(ledger, failure.event, _LARGEST, failure.device),
        fragments=fragments,
        remedies=_remedies(ledger, failure, alive, asked or 0, fragments),
    )


def _last_failure(ledger: Ledger) -> _Failure | None:
    recording = ledger.recording
    counters = recording.counters
    if FailureCounter.ASKED not in recording.strings:
        return None
    rows = np.flatnonzero(counters.name == recording.strings.index(FailureCounter.ASKED))
    if not len(rows):
        return None
    last = int(rows[np.argmax(counters.time_ns[rows])])
    time_ns = int(counters.time_ns[last])
    event = int(np.searchsorted(recording.events.time_ns, time_ns, side="right")) - 1
    return _Failure(time_ns, int(counters.device[last]), event, _scope_around(recording, time_ns))


def _scope_around(recording: Recording, time_ns: int) -> int:
    """The scope that began last of those around a moment: on whatever thread, it is what was being done."""
    scopes = recording.scopes
    around = np.flatnonzero((scopes.start_ns <= time_ns) & (scopes.end_ns >= time_ns))
    around = around[~np.isin(scopes.kind[around], (ScopeKind.STEP, ScopeKind.PHASE))]
    return int(around[np.lexsort((around, scopes.start_ns[around]))[-1]]) if len(around) else -1


def _phase(recording: Recording, failure: _Failure) -> str | None:
    return innermost(recording, ScopeKind.PHASE, failure.time_ns, failure.time_ns)


def _reserved(ledger: Ledger, failure: _Failure, held: int, fragments: Fragments | None) -> int | None:
    """What the allocator held: before it fails it gives back what it can, so its last event tells too much."""
    if fragments is not None:
        return held + fragments.releasable_bytes + fragments.stuck_bytes + fragments.pending_bytes
    rows = ledger.event_rows[failure.device]
    before = int(np.searchsorted(rows, failure.event, side="right")) - 1
    if ledger.recording.devices[failure.device].is_cpu or before < 0:
        return None
    return int(ledger.recording.events.reserved[rows[before]])


def _by_module(ledger: Ledger, alive: Flags) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(ledger.sum_by_module(alive).items(), key=lambda held: -held[1]))


# -- what would have helped -------------------------------------------------------------------------------------------


def _remedies(
    ledger: Ledger, failure: _Failure, alive: Flags, asked: int, fragments: Fragments | None
) -> tuple[Relief, ...]:
    """The three that would have left most free, each by itself."""
    found = [
        *_smaller_batch(ledger, alive, asked),
        *_checkpointing(ledger, alive),
        *_optimizer(ledger, alive),
        *_gradients(ledger, failure, alive),
        *_temporaries(ledger, alive),
        *_other_processes(ledger.recording, failure),
        *_defragmenting(fragments),
    ]
    worthwhile = sorted((relief for relief in found if relief.saved_bytes > 0), key=lambda relief: -relief.saved_bytes)
    return tuple(worthwhile[:_REMEDIES])


def _sum(ledger: Ledger, alive: Flags, *categories: Category) -> int:
    codes = [CODE[category] for category in categories]
    return int(ledger.blocks.size[alive & np.isin(ledger.category, codes)].sum())


def _smaller_batch(ledger: Ledger, alive: Flags, asked: int) -> Iterator[Relief]:
    batch = ledger.recording.workload.get("batch")
    if batch == 1:
        return
    scaling = _sum(ledger, alive, Category.INPUTS, Category.ACTIVATIONS, Category.ACTIVATION_GRADIENTS)
    basis = (
        "half of inputs, activations and their gradients alive then, and of the request, if they grow with the batch"
    )
    yield Relief("half the batch", (scaling + asked) // 2, basis)


def _checkpointing(ledger: Ledger, alive: Flags) -> Iterator[Relief]:
    """What the modules of one kind that repeats hold for backward, but for the fullest one, which is recomputed."""
    held = alive & ledger.is_category(Category.ACTIVATIONS) & ~ledger.recomputed
    groups: dict[tuple[str, str], dict[str, int]] = {}
    types = dict(ledger.recording.workload.get("modules", []))
    for path, size in _by_module(ledger, held):
        parts = path.split(".")
        for depth, part in enumerate(parts):
            child = ".".join(parts[: depth + 1])
            if part.isdecimal():
                group = groups.setdefault((".".join(parts[:depth]), str(types.get(child, ""))), {})
                group[child] = group.get(child, 0) + size
    best = max((group for group in groups.items() if len(group[1]) > 1), key=_recomputable, default=None)
    if best is not None:
        (parent, kind), members = best
        basis = (
            f"activations inside {len(members)} {kind or 'modules'} of {parent or 'the model'}, less the fullest one"
        )
        yield Relief("activation checkpointing", _recomputable(best), f"{basis}; its inputs stay, so at most this")


def _recomputable(group: tuple[tuple[str, str], dict[str, int]]) -> int:
    return sum(group[1].values()) - max(group[1].values())


def _optimizer(ledger: Ledger, alive: Flags) -> Iterator[Relief]:
    state = _sum(ledger, alive, Category.OPTIMIZER_STATE)
    name = str(ledger.recording.workload.get("optimizer") or "the optimizer")
    yield Relief("an optimizer with 8-bit state", state * 3 // 4, f"three quarters of the 32-bit state of {name}")
    yield Relief("SGD without momentum", state, f"all state of {name}; it trains differently")


def _gradients(ledger: Ledger, failure: _Failure, alive: Flags) -> Iterator[Relief]:
    """Gradients of the step before, alive while the forward pass runs, serve nobody."""
    if _phase(ledger.recording, failure) == PhaseName.FORWARD:
        held = _sum(ledger, alive, Category.GRADIENTS)
        yield Relief(
            "optimizer.zero_grad(set_to_none=True) before the forward pass", held, "gradients alive in the forward pass"
        )


def _temporaries(ledger: Ledger, alive: Flags) -> Iterator[Relief]:
    held = _sum(ledger, alive, Category.OPTIMIZER_TEMPORARIES)
    yield Relief("a fused optimizer (fused=True)", held, "the optimizer's temporaries alive then")


def _other_processes(recording: Recording, failure: _Failure) -> Iterator[Relief]:
    """Other processes on the device, at the last sample before."""
    rows = counter_rows(recording, DeviceCounter.PROCESS, failure.device)
    times = recording.counters.time_ns[rows]
    before = times[times <= failure.time_ns]
    if len(before):
        names = (DeviceCounter.USED, DeviceCounter.PROCESS)
        used, own = (value_at(recording, name, failure.device, int(before[-1])) or 0 for name in names)
        yield Relief("ending other processes on the GPU", used - own, "what NVML counts beyond this process")


def _defragmenting(fragments: Fragments | None) -> Iterator[Relief]:
    if fragments is not None:
        basis = "free memory beside blocks in use, which no new segment can take"
        yield Relief("PYTORCH_ALLOC_CONF=expandable_segments:True", fragments.stuck_bytes, basis)
