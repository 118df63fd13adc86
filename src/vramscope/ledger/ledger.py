"""The Ledger: who owns every byte and when, computed from a Recording and nothing else."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vramscope.errors import UsageError
from vramscope.ledger.blocks import BEFORE, Blocks, pair_events
from vramscope.ledger.categories import CATEGORIES, CODE, Category, Flags, categorize, find_recomputed
from vramscope.ledger.labels import deciding_marks
from vramscope.ledger.lineage import Lineage, trace_lineage
from vramscope.ledger.periods import NO_PHASE, Period, Periods, Stretch, Window, find_periods
from vramscope.ledger.totals import RunningTotal, running_total
from vramscope.recording.recording import UNKNOWN, Integers, MarkKind, PhaseName, Recording

Composition = dict[Category, int]
"""Bytes of every category; categories without any are there with 0."""
_OWNED_MARKS = (MarkKind.PARAMETER, MarkKind.BUFFER, MarkKind.GRADIENT, MarkKind.OPTIMIZER_STATE)


@dataclass(frozen=True)
class Moment:
    """The state just after one event; ``event`` is `BEFORE` for the very beginning.

    Where it is the beginning of a period, blocks that were found gone by ``found_ns``, of which no event tells, are no
    longer in it.
    """

    event: int
    bytes: int
    found_ns: int = UNKNOWN


class Ledger:
    """Blocks with their categories, modules and phases, and the questions that can be asked of them.

    All rows and columns are numpy arrays of int64; sizes are bytes. Peaks are those of a step, a phase or a `Window` of
    events; of the whole recording without one.
    """

    def __init__(self, recording: Recording) -> None:
        """Compute the ledger; takes time linear in the number of events.

        Raises:
            UsageError: it is no Recording.
        """
        if not isinstance(recording, Recording):
            raise UsageError(
                f"Ledger(…) takes a Recording, not {type(recording).__name__}: give profile.recording, or "
                "vramscope.read_recording(path)"
            )
        self.recording = recording
        self._allocator_totals: dict[int, Integers] = {}
        self.blocks: Blocks = pair_events(recording)
        self.lineage: Lineage = trace_lineage(recording)
        self.periods: Periods = find_periods(recording)
        self.mark = deciding_marks(recording, self.blocks)
        """For each block the row of its deciding mark, -1 without one."""
        self.category: Integers = categorize(recording, self.blocks, self.mark, self.lineage, self.periods)
        """For each block the code of its category: its place in `CATEGORIES`."""
        self.recomputed: Flags = self.is_category(Category.ACTIVATIONS) & find_recomputed(
            self.blocks, self.lineage, self.periods
        )

    def __len__(self) -> int:
        return len(self.recording.events)

    # -- totals -----------------------------------------------------------------------------------------------------

    @cached_property
    def event_rows(self) -> tuple[Integers, ...]:
        """For each device the rows of its events."""
        return tuple(np.flatnonzero(self.recording.events.device == d) for d in range(len(self.recording.devices)))

    @cached_property
    def _running_totals(self) -> tuple[RunningTotal, ...]:
        return tuple(running_total(self.recording, self.blocks, d, rows) for d, rows in enumerate(self.event_rows))

    def initial_bytes(self, device: int = 0) -> int:
        """What was alive on a device when the recording began, as far as it is known."""
        return int(self.blocks.size[self._seeded(device)].sum())

    def allocator_totals(self, device: int = 0) -> Integers:
        """The allocator's own recorded total after each of the device's events, counted from the recording's beginning.

        Blocks older than the recording are added for as long as they lived: the allocator's total since then knows only
        of those that it reported. So is what it does not count or remembers wrongly (see `RunningTotal`).
        """
        if device not in self._allocator_totals:
            rows = self.event_rows[device]
            own = self._running_totals[device]
            total = own.allocator + own.untold - self.recording.devices[device].start_total
            silent = self._silent_changes(self._every, device, rows)
            self._allocator_totals[device] = total + self.initial_bytes(device) + silent
        return self._allocator_totals[device]

    def reserved_totals(self, device: int = 0) -> Integers | None:
        """What the allocator had reserved after each of the device's events; None for one that reserves nothing."""
        reserved = self.recording.events.reserved[self.event_rows[device]]
        has_cache = not self.recording.devices[device].is_cpu and bool(np.any(reserved > 0))
        return np.maximum(reserved, 0) if has_cache else None

    def ledger_totals(self, device: int = 0) -> Integers:
        """The same from the ledger's blocks: what each event's block adds when it is born and takes when it dies."""
        rows, change = self._changes(self._every, device)
        return np.cumsum(change) + self.initial_bytes(device) + self._silent_changes(self._every, device, rows)

    def max_disagreement_bytes(self, device: int = 0) -> int:
        """The largest difference, at any event, between the allocator's own total and what the ledger adds up to.

        Also counted: a free whose size is not that of its allocation, and a total at either end that does not join up
        with the events. 0 means that every byte is accounted for.
        """
        rows = self.event_rows[device]
        own = self.recording.devices[device]
        allocator, initial = self.allocator_totals(device), self.initial_bytes(device)
        size = self._running_totals[device].change
        differences = [
            np.abs(self.ledger_totals(device) - allocator),
            np.abs(np.cumsum(size) + initial + self._silent_changes(self._every, device, rows) - allocator),
            np.abs(np.abs(size) - self.blocks.size[self.blocks.of_event[rows]]),
        ]
        total = self._running_totals[device].allocator
        end = abs(own.end_total - (int(total[-1]) if len(total) else own.start_total))
        return max([end, *(int(column.max()) for column in differences if len(column))])

    # -- moments ----------------------------------------------------------------------------------------------------

    @cached_property
    def whole(self) -> Window:
        """All events of the recording."""
        return Window(0, len(self))

    def peak(self, window: Stretch | None = None, device: int = 0) -> Moment:
        """The first moment within a window at which the allocator's own total is highest."""
        window = self.whole if window is None else window
        before = self.beginning(window, device)
        return _highest(self.event_rows[device], self.allocator_totals(device), window, before)

    def beginning(self, window: Stretch, device: int = 0) -> Moment:
        """The state in which a window begins."""
        rows, totals = self.event_rows[device], self.allocator_totals(device)
        place = int(np.searchsorted(rows, window.first))
        told = Moment(int(rows[place - 1]), int(totals[place - 1])) if place else self._very_beginning(device)
        return self._without_gone(self._every, told, window, device)

    def _very_beginning(self, device: int) -> Moment:
        return Moment(BEFORE, self.initial_bytes(device))

    def _without_gone(self, chosen: Flags, told: Moment, window: Stretch, device: int) -> Moment:
        """The state that events tell of before a window, without what has silently ended since."""
        begins = Moment(window.first - 1, 0, window.start_ns)
        rows = self._silent_rows[device]
        gone = rows[chosen[rows] & self.alive_at(told, rows) & ~self.alive_at(begins, rows)]
        return replace(begins, bytes=told.bytes - int(self.blocks.size[gone].sum())) if len(gone) else told

    @cached_property
    def _silent_rows(self) -> list[Integers]:
        """By device: the blocks of whose end no event tells, which are few."""
        silent = self.blocks.silent | (self.blocks.gone_ns != UNKNOWN)
        return [np.flatnonzero(silent & (self.blocks.device == number)) for number in range(len(self.event_rows))]

    def alive_at(self, moment: Moment, rows: Integers | None = None) -> Flags:
        """Which blocks are alive at a moment, on any device: of all, or of those in some ``rows``."""
        chosen = slice(None) if rows is None else rows
        blocks = self.blocks
        alive = (blocks.birth[chosen] <= moment.event) & (blocks.death[chosen] > moment.event)
        gone_ns = blocks.gone_ns[chosen]
        return alive & ~((gone_ns != UNKNOWN) & (gone_ns <= moment.found_ns))

    def composition_at(self, moment: Moment, device: int = 0, *, requested: bool = False) -> Composition:
        """Bytes by category at a moment, of what the allocator counts or of what was ``requested``."""
        return self.sum_by_category(self.alive_at(moment) & (self.blocks.device == device), requested=requested)

    def composition(self, event: int, device: int = 0, *, requested: bool = False) -> Composition:
        """Bytes by category just after an event, of what the allocator counts or of what was ``requested``."""
        alive = self.blocks.alive_after(event) & (self.blocks.device == device)
        return self.sum_by_category(alive, requested=requested)

    def sum_by_category(self, chosen: Flags, *, requested: bool = False) -> Composition:
        """Bytes by category of the chosen blocks."""
        sums = np.zeros(len(CATEGORIES), dtype=np.int64)
        np.add.at(sums, self.category[chosen], (self.blocks.requested if requested else self.blocks.size)[chosen])
        return {category: int(sums[code]) for code, category in enumerate(CATEGORIES)}

    def sum_by_module(self, chosen: Flags) -> dict[str, int]:
        """Bytes of the chosen blocks by the path of their module; modules without any are left out."""
        sums = np.zeros(len(self.module_paths), dtype=np.int64)
        np.add.at(sums, self.module[chosen], self.blocks.size[chosen])
        return {self.module_paths[number]: int(sums[number]) for number in np.flatnonzero(sums).tolist()}

    def category_peak(self, category: Category, window: Stretch | None = None, device: int = 0) -> Moment:
        """The first moment within a window at which one category is at its fullest, and that category's bytes then."""
        return self.peak_of(self.is_category(category), window, device)

    def peak_of(self, chosen: Flags, window: Stretch | None = None, device: int = 0) -> Moment:
        """The first moment within a window at which the chosen blocks together are at their fullest."""
        window = self.whole if window is None else window
        rows, change = self._changes(chosen, device)
        initial = int(self.blocks.size[chosen & self._seeded(device)].sum())
        running = np.cumsum(change) + initial + self._silent_changes(chosen, device, rows)
        place = int(np.searchsorted(rows, window.first))
        told = Moment(int(rows[place - 1]), int(running[place - 1])) if place else Moment(BEFORE, initial)
        before = self._without_gone(chosen, told, window, device)
        return _highest(rows, running, window, before)

    def levels_of(self, chosen: Flags, events: Integers, device: int = 0) -> Integers:
        """What the chosen blocks hold just after each of the given events."""
        rows, change = self._changes(chosen, device)
        initial = int(self.blocks.size[chosen & self._seeded(device)].sum())
        running = np.append(0, np.cumsum(change)) + initial
        return running[np.searchsorted(rows, events, side="right")] + self._silent_changes(chosen, device, events)

    def peaks_by_module(self, chosen: Flags, window: Stretch | None = None, device: int = 0) -> Integers:
        """For each module (numbers of `module_paths`) the most that the chosen blocks of it ever held within a
        window."""
        return self.peaks_by_group(self.module, len(self.module_paths), chosen, window, device)

    def peaks_by_group(
        self, group: Integers, count: int, chosen: Flags, window: Stretch | None = None, device: int = 0
    ) -> Integers:
        """The most that the chosen blocks of each group ever held within a window, each group at its own moment.

        Args:
            group: for each block the number of its group, in ``[0, count)``.
            count: how many groups there are.
            chosen: which blocks count.
            window: the events looked at; all without one.
            device: whose blocks.
        """
        window = self.whole if window is None else window
        rows, change = self._changes(chosen, device)
        number = group[self.blocks.of_event[rows]]
        silent = np.flatnonzero(self.blocks.silent & chosen & (self.blocks.device == device))
        rows = np.concatenate([self.blocks.death[silent], rows])  # at one row the silent ends come first
        change = np.concatenate([-self.blocks.size[silent], change])
        number = np.concatenate([group[silent], number])
        order = np.lexsort((rows, number))
        running = np.cumsum(change[order])
        starts = np.searchsorted(number[order], np.arange(count))
        base = np.append(0, running)[starts]  # the running sum before each group's first event
        older = chosen & self._seeded(device)
        seeded = np.zeros(count, dtype=np.int64)
        np.add.at(seeded, group[older], self.blocks.size[older])
        level = running - base[number[order]] + seeded[number[order]]
        inside = (rows[order] >= window.first) & (rows[order] < window.last) & (order >= len(silent))
        peaks = np.zeros(count, dtype=np.int64)
        held = chosen & (self.blocks.device == device) & self.alive_at(Moment(window.first - 1, 0, window.start_ns))
        np.add.at(peaks, group[held], self.blocks.size[held])  # what each group holds when the window begins
        np.maximum.at(peaks, number[order][inside], level[inside])
        return peaks

    def _changes(self, chosen: Flags, device: int) -> tuple[Integers, Integers]:
        """The events of the chosen blocks, and what each adds or takes."""
        rows = self.event_rows[device]
        block = self.blocks.of_event[rows]
        mine = chosen[block]
        rows, block = rows[mine], block[mine]
        return rows, np.where(self.blocks.birth[block] == rows, self.blocks.size[block], -self.blocks.size[block])

    def _silent_changes(self, chosen: Flags, device: int, rows: Integers) -> Integers:
        """What the silent ends of chosen blocks have taken away by each of the event ``rows``; negative."""
        silent = np.flatnonzero(self.blocks.silent & chosen & (self.blocks.device == device))
        silent = silent[np.argsort(self.blocks.death[silent])]
        taken = np.append(0, np.cumsum(self.blocks.size[silent]))
        return -taken[np.searchsorted(self.blocks.death[silent], rows, side="right")]

    @cached_property
    def _every(self) -> Flags:
        return np.ones(len(self.blocks), dtype=np.bool_)

    def _seeded(self, device: int) -> Flags:
        return (self.blocks.birth == BEFORE) & (self.blocks.device == device)

    def timeline(self, device: int = 0) -> tuple[Integers, Integers]:
        """Composition over time: event times [n] in ns, and bytes [n, categories] after each event of the device."""
        rows = self.event_rows[device]
        block = self.blocks.of_event[rows]
        change = np.zeros((len(rows), len(CATEGORIES)), dtype=np.int64)
        born = self.blocks.birth[block] == rows
        change[np.arange(len(rows)), self.category[block]] = np.where(born, 1, -1) * self.blocks.size[block]
        levels = np.cumsum(change, axis=0) + np.array(list(self.composition(BEFORE, device).values()), dtype=np.int64)
        for code, category in enumerate(CATEGORIES):
            levels[:, code] += self._silent_changes(self.is_category(category), device, rows)
        return self.recording.events.time_ns[rows], levels

    # -- blocks -----------------------------------------------------------------------------------------------------

    def is_category(self, category: Category) -> Flags:
        """Which blocks are of a category."""
        return self.category == CODE[category]

    @cached_property
    def kv_cache(self) -> Flags:
        """Which blocks a model's output handed on as keys and values for its next token."""
        return np.append(self.recording.marks.kind, -1)[self.mark] == MarkKind.KV_CACHE

    @cached_property
    def retained(self) -> Flags:
        """Which blocks are activations born in a forward pass and alive when a backward pass begins."""
        begins = np.array([p.first for p in self.periods.phases if p.name == PhaseName.BACKWARD], dtype=np.int64)
        # alive when event `begin` is about to happen: birth < begin <= death
        passed = np.searchsorted(begins, self.blocks.death, side="right")
        survived = passed > np.searchsorted(begins, self.blocks.birth, side="right")
        return self.is_category(Category.ACTIVATIONS) & ~self.recomputed & survived

    @cached_property
    def held_by_autograd(self) -> Flags:
        """Which retained blocks died during a backward pass: autograd let go of them last, no variable did."""
        rows = self.periods.phase_rows(self.blocks.death)
        names = np.array([phase.name == PhaseName.BACKWARD for phase in self.periods.phases] + [False], dtype=np.bool_)
        return self.retained & names[rows]  # the last name is that of `NO_PHASE`

    @cached_property
    def module_paths(self) -> tuple[str, ...]:
        """All module paths that own something, by the numbers in `module`; number 0 is the root, ``""``."""
        return tuple(dict.fromkeys(("", *self.recording.strings, *map(_module_of, self.recording.strings))))

    @cached_property
    def module(self) -> Integers:
        """For each block its module, a number into `module_paths`.

        Parameters, gradients and optimizer state belong to the module that has the parameter; every other block to
        the module
        whose forward, or whose part of backward, made it.
        """
        numbers = {path: number for number, path in enumerate(self.module_paths)}
        strings = self.recording.strings
        of_path = np.array([numbers[text] for text in strings], dtype=np.int64)
        of_parameter = np.array([numbers[_module_of(text)] for text in strings], dtype=np.int64)
        module = of_path[self.lineage.module[self.blocks.birth_scope]]
        kind, name, owner = (
            np.append(getattr(self.recording.marks, c), 0)[self.mark] for c in ("kind", "name", "owner")
        )
        owned = (self.mark >= 0) & np.isin(kind, _OWNED_MARKS)
        parameter = np.where(kind == MarkKind.OPTIMIZER_STATE, owner, name)
        return np.where(owned, of_parameter[parameter], module)

    # -- names of moments -------------------------------------------------------------------------------------------

    def phase_at(self, event: int) -> str | None:
        """The phase in which an event happened, if any."""
        row = int(self.periods.phase_rows(np.array([event]))[0])
        return None if row == NO_PHASE else self.periods.phases[row].name

    def module_at(self, event: int) -> str:
        """The module in whose computation an event happened; ``""`` for the root or none."""
        return self.recording.strings[int(self.lineage.module[self._scope_of(event)])]

    def operator_at(self, event: int) -> str | None:
        """The operator that the program, or a backward node, was running; the node itself if it ran none."""
        scope = self._scope_of(event)
        for found in (self.lineage.operator[scope], self.lineage.node[scope], self.lineage.graph[scope]):
            if found >= 0:
                return self.recording.strings[int(self.recording.scopes.name[found])]
        return None

    def _scope_of(self, event: int) -> int:
        return int(self.recording.events.scope[event]) if 0 <= event < len(self) else -1

    @property
    def steps(self) -> tuple[Period, ...]:
        """The steps of the workload, the cold one first."""
        return self.periods.steps


def _highest(rows: Integers, levels: Integers, window: Stretch, before: Moment) -> Moment:
    """The first highest moment of a window, given the levels after each of some rows and what was there before."""
    begin, end = np.searchsorted(rows, (window.first, window.last))
    if begin == end:
        return before
    top = int(begin + np.argmax(levels[begin:end]))
    return Moment(int(rows[top]), int(levels[top])) if levels[top] > before.bytes else before


def _module_of(parameter: str) -> str:
    """The path of the module that has a parameter of this qualified name."""
    return parameter.rpartition(".")[0]
