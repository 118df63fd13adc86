"""One pass in figures: what every view shows, computed once and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vramscope.ledger.categories import Category, Flags
from vramscope.ledger.counters import Fragments, fragments_at, latest_value
from vramscope.ledger.holders import HeldBlock, held_blocks
from vramscope.ledger.host import HostSummary, host_summary
from vramscope.ledger.ledger import Composition, Ledger, Moment
from vramscope.ledger.periods import Period, Window
from vramscope.ledger.reconciliation import Reconciliation, reconcile
from vramscope.ledger.sites import Site, sites_of
from vramscope.recording.collection import RUN
from vramscope.recording.counters import DeviceCounter
from vramscope.recording.recording import DEVICE_MEMORY, PhaseName, Recording

_LARGEST = 10
SUMMARIZED_PHASES = (PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.OPTIMIZER)


@dataclass(frozen=True)
class Peak:
    """The highest moment of a window and who held what then; bytes.

    ``requested_by_category`` counts what was asked for, ``by_category`` what the allocator handed out.
    """

    bytes: int
    phase: str | None
    module: str
    operator: str | None
    by_category: Composition
    requested_by_category: Composition


@dataclass(frozen=True)
class AllocatorCheck:
    """The allocator's own word: its peak over the window, its events there, and where the ledger differs (bytes)."""

    peak_bytes: int
    events: int
    max_disagreement_bytes: int


@dataclass(frozen=True)
class Level:
    """A highest moment without its circumstances; bytes."""

    peak_bytes: int
    by_category: Composition


@dataclass(frozen=True)
class Activations:
    """Activations kept for backward against those that come and go; bytes.

    ``recomputed_bytes_at_peak`` counts activations that checkpointing computed again and that were alive at the peak,
    ``kv_cache_bytes_at_peak`` the keys and values that a transformer keeps for its next token.
    """

    retained_bytes: int
    held_by_autograd_bytes: int
    held_by_python_bytes: int
    transient_peak_bytes: int
    recomputed_peak_bytes: int
    recomputed_bytes_at_peak: int
    kv_cache_bytes_at_peak: int


@dataclass(frozen=True)
class ModuleRow:
    """A module's own bytes, its children's excluded.

    ``optimizer_state_bytes`` are those at the end of the steady steps, of the parameters that the module has.
    """

    path: str
    type: str
    parameter_bytes: int
    retained_bytes: int
    transient_peak_bytes: int
    gradient_bytes: int
    optimizer_state_bytes: int = 0


@dataclass(frozen=True)
class DeviceSummary:
    """One device's share of a pass; totals of several devices are never added up. None stands for "not measured".

    ``reserved_peak_bytes`` is what the allocator itself holds at most: on a CPU just what is allocated, for its
    allocator keeps nothing back. ``process_used_bytes`` is the process's use of the device at its peak, on a CPU the
    RSS.
    """

    device: str
    name: str
    peak: Peak
    allocator: AllocatorCheck
    reserved_peak_bytes: int | None
    process_used_bytes: int | None
    total_bytes: int | None
    reconciliation: Reconciliation | None = None
    fragments: Fragments | None = None
    largest: tuple[HeldBlock, ...] = ()
    """A GPU's largest blocks at its peak."""
    max_memory_allocated_bytes: int | None = None
    """Torch's own peak of the steady steps, where it was read: to be compared with the ledger's."""

    @property
    def outside_allocator_bytes(self) -> int | None:
        """What the process uses of the device beyond the allocator's tensors."""
        if self.reconciliation is not None:  # both sides of the difference at one moment
            return self.reconciliation.outside_bytes
        if self.process_used_bytes is None or self.reserved_peak_bytes is None:
            return None
        return self.process_used_bytes - self.reserved_peak_bytes


@dataclass(frozen=True)
class PassSummary:
    """A pass over its steady steps, the cold step beside it; bytes.

    ``cold`` is None where steps were recorded, but not the cold one, as in most windows of a script's run.
    ``gradients_peak_bytes`` is the gradients' own highest total, and ``optimizer_state`` what the optimizer holds at
    the end by the name of the state, step counters apart from moments.
    """

    peak: Peak
    allocator: AllocatorCheck
    phases: Mapping[str, Level]
    cold: Level | None
    activations: Activations
    gradients_peak_bytes: int
    optimizer_state: Mapping[str, int]
    modules: tuple[ModuleRow, ...]
    sites: tuple[Site, ...]
    host: HostSummary | None
    devices: tuple[DeviceSummary, ...]
    steady_steps: int
    notes: tuple[str, ...]
    complete: bool


def summarize(recording: Recording) -> PassSummary:
    """A recording in figures: its steady steps, or all of it where it has no steps."""
    return summarize_ledger(Ledger(recording))


def summarize_ledger(ledger: Ledger) -> PassSummary:
    """The same for a ledger that is there already."""
    window, cold = steady_window(ledger), _cold_step(ledger)
    top = ledger.peak(window)
    recording = ledger.recording
    host = host_summary(ledger, ledger.steps[0].first if ledger.steps else 0, window.last)
    return PassSummary(
        peak=_peak(ledger, top),
        allocator=_check(ledger, window),
        phases=_phases(ledger, window),
        cold=_cold(ledger, cold),
        activations=_activations(ledger, window, top),
        gradients_peak_bytes=_fullest_gradients(ledger, window).bytes,
        optimizer_state=_optimizer_state(ledger, window),
        modules=_modules(ledger, window),
        sites=sites_of(ledger, ledger.alive_at(top) & (ledger.blocks.device == 0)),
        host=host,
        devices=tuple(_device(ledger, window, number, host) for number in range(len(recording.devices))),
        steady_steps=sum(step != cold for step in window.steps),
        notes=(*recording.notes, *_remarks(ledger)),
        complete=recording.complete,
    )


def steady_window(ledger: Ledger) -> Window:
    """The steps after the cold one; the only step where there is just one; everything where there is none."""
    steps = ledger.steps if _cold_step(ledger) is None else ledger.steps[1:] or ledger.steps
    return Window.of_steps(steps) if steps else ledger.whole


def _cold_step(ledger: Ledger) -> Period | None:
    """The first step recorded, but in a script's run its step 0, which need not be recorded."""
    if not ledger.steps or (ledger.steps[0].value and ledger.recording.workload.get("tool") == RUN):
        return None
    return ledger.steps[0]


def _cold(ledger: Ledger, step: Period | None) -> Level | None:
    """The highest moment of the cold step; of everything where there are no steps."""
    if not ledger.steps:
        return _level(ledger, ledger.peak())
    return None if step is None else _level(ledger, ledger.peak(step))


def _peak(ledger: Ledger, moment: Moment, device: int = 0) -> Peak:
    by_category = ledger.composition_at(moment, device)
    return Peak(
        bytes=sum(by_category.values()),  # the ledger's word; AllocatorCheck has the allocator's
        phase=ledger.phase_at(moment.event),
        module=ledger.module_at(moment.event),
        operator=ledger.operator_at(moment.event),
        by_category=by_category,
        requested_by_category=ledger.composition_at(moment, device, requested=True),
    )


def _check(ledger: Ledger, window: Window, device: int = 0) -> AllocatorCheck:
    rows = ledger.event_rows[device]
    return AllocatorCheck(
        peak_bytes=ledger.peak(window, device).bytes,
        events=int(np.sum((rows >= window.first) & (rows < window.last))),
        max_disagreement_bytes=ledger.max_disagreement_bytes(device),
    )


def _device(ledger: Ledger, window: Window, number: int, host: HostSummary | None) -> DeviceSummary:
    device = ledger.recording.devices[number]
    check = _check(ledger, window, number)
    reserved = ledger.reserved_totals(number)
    reserved_peak = None if reserved is None else int(reserved.max())
    moment = ledger.peak(window, number)
    found = None if device.is_cpu else reconcile(ledger, window.first, window.last, number)
    on_gpu = found.process_bytes if found is not None else None
    return DeviceSummary(
        device=device.name,
        name=device.description,
        peak=_peak(ledger, moment, number),
        allocator=check,
        reserved_peak_bytes=check.peak_bytes if device.is_cpu else reserved_peak,
        process_used_bytes=host.rss_peak_bytes if device.is_cpu and host is not None else on_gpu,
        total_bytes=latest_value(ledger.recording, DEVICE_MEMORY, number),
        reconciliation=found,
        max_memory_allocated_bytes=latest_value(ledger.recording, DeviceCounter.PEAK, number),
        largest=() if device.is_cpu else held_blocks(ledger, moment.event, _LARGEST, number),
        fragments=None if device.is_cpu else _fragments(ledger, moment, number),
    )


def _fragments(ledger: Ledger, moment: Moment, device: int) -> Fragments | None:
    if moment.event < 0:
        return None
    return fragments_at(ledger.recording, device, int(ledger.recording.events.time_ns[moment.event]))


def _level(ledger: Ledger, moment: Moment) -> Level:
    return Level(moment.bytes, ledger.composition_at(moment))


def _phases(ledger: Ledger, window: Window) -> dict[str, Level]:
    """Each phase's highest moment over the window; phases that did not happen are left out."""
    levels = {}
    for name in SUMMARIZED_PHASES:
        periods = ledger.periods.named(name, window.steps)
        moments = [ledger.peak(period) for period in periods]
        if moments:
            levels[str(name)] = _level(ledger, max(moments, key=lambda moment: moment.bytes))
    return levels


def _activations(ledger: Ledger, window: Window, top: Moment) -> Activations:
    retained = _retained_at_fullest(ledger, window)
    size = ledger.blocks.size
    transient = ledger.is_category(Category.ACTIVATIONS) & ~ledger.retained
    alive = ledger.alive_at(top) & (ledger.blocks.device == 0)
    retained_bytes = int(size[retained].sum())
    by_autograd = int(size[retained & ledger.held_by_autograd].sum())
    return Activations(
        retained_bytes=retained_bytes,
        held_by_autograd_bytes=by_autograd,
        held_by_python_bytes=retained_bytes - by_autograd,
        transient_peak_bytes=ledger.peak_of(transient, window).bytes,
        recomputed_peak_bytes=ledger.peak_of(ledger.recomputed, window).bytes,
        recomputed_bytes_at_peak=int(size[alive & ledger.recomputed].sum()),
        kv_cache_bytes_at_peak=int(size[alive & ledger.kv_cache].sum()),
    )


def _retained_at_fullest(ledger: Ledger, window: Window) -> Flags:
    """The retained blocks alive at the beginning of that backward pass of the window which finds most of them."""
    chosen = ledger.retained & (ledger.blocks.device == 0)
    begins = [backward.first for backward in ledger.periods.named(PhaseName.BACKWARD, window.steps)]
    if not begins:
        return np.zeros(len(ledger.blocks), dtype=np.bool_)
    levels = ledger.levels_of(chosen, np.array(begins, dtype=np.int64) - 1)
    return chosen & ledger.blocks.alive_after(begins[int(np.argmax(levels))] - 1)


def _optimizer_state(ledger: Ledger, window: Window) -> dict[str, int]:
    """Bytes of optimizer state alive at the window's end by the state's name; a list counts as one."""
    mine = (ledger.blocks.device == 0) & ledger.is_category(Category.OPTIMIZER_STATE)
    alive = mine & ledger.blocks.alive_after(window.last - 1)
    sums: dict[str, int] = {}
    for block in np.flatnonzero(alive).tolist():
        name = ledger.recording.strings[int(ledger.recording.marks.name[ledger.mark[block]])].partition(".")[0]
        sums[name] = sums.get(name, 0) + int(ledger.blocks.size[block])
    return dict(sorted(sums.items()))


def _modules(ledger: Ledger, window: Window) -> tuple[ModuleRow, ...]:
    """A row for every module of the model, and for every other path that something was booked on."""
    mine = ledger.blocks.device == 0
    end = mine & ledger.blocks.alive_after(window.last - 1)
    fullest = mine & ledger.alive_at(_fullest_gradients(ledger, window))
    transient = ledger.is_category(Category.ACTIVATIONS) & ~ledger.retained
    columns = (
        ledger.sum_by_module(end & ledger.is_category(Category.PARAMETERS)),
        ledger.sum_by_module(_retained_at_fullest(ledger, window)),
        dict(zip(ledger.module_paths, ledger.peaks_by_module(transient, window).tolist(), strict=True)),
        ledger.sum_by_module(fullest & ledger.is_category(Category.GRADIENTS)),
        ledger.sum_by_module(end & ledger.is_category(Category.OPTIMIZER_STATE)),
    )
    types = dict(ledger.recording.workload.get("modules", []))
    used = {path for column in columns for path, size in column.items() if size}
    paths = [*types, *sorted(used - set(types))]
    return tuple(
        ModuleRow(path, str(types.get(path, "")), *(column.get(path, 0) for column in columns)) for path in paths
    )


def _fullest_gradients(ledger: Ledger, window: Window) -> Moment:
    return ledger.category_peak(Category.GRADIENTS, window)


def _remarks(ledger: Ledger) -> list[str]:
    """What the reader should know of how sure the figures are."""
    lost = ledger.blocks.lost
    if not np.any(lost):
        return []
    return [
        f"{int(ledger.blocks.size[lost].sum())} bytes were freed where no profiler looked, on another thread (blocks: "
        f"{int(lost.sum())}): the allocator's own total still counts them, and so do these figures"
    ]
