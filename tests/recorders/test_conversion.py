"""From an event tree to tables; the trees are made by hand, node by node, as the profiler makes them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._profiler import RecordScope, _EventType

from helpers import MarkKind
from vramscope.errors import RecordingError
from vramscope.recorders.conversion import NODE_PREFIX, StringTable, Tables, convert
from vramscope.recorders.labels import Label
from vramscope.recorders.stamps import StampKind, label
from vramscope.recording.recording import NO_SCOPE, UNKNOWN, ScopeKind

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NO_SEQUENCE = 2**64 - 1
"""What torch has where there is no sequence number."""


TICK = 1_000_000
"""Between two happenings, so that scopes can start just before what they contain, however deep they are nested."""


@dataclass
class Tree:
    """Builds an event tree from the inside out; every node takes one tick of the clock."""

    now: int = 0
    total: int = 500

    def tick(self) -> int:
        self.now += TICK
        return self.now

    def allocation(self, address: int, size: int, device: torch.device = CPU) -> Any:
        self.total += size
        facts = SimpleNamespace(
            ptr=address, alloc_size=size, device=device, total_allocated=self.total, total_reserved=0
        )
        return SimpleNamespace(
            tag=_EventType.Allocation, start_time_ns=self.tick(), extra_fields=facts, children=[], name="[memory]"
        )

    def scope(self, name: str, *inner: Any, sequence: int = NO_SEQUENCE, kind: Any = RecordScope.FUNCTION) -> Any:
        """A scope around nodes that were made before it: it starts just before the first of them."""
        start = min((node.start_time_ns for node in inner), default=self.tick()) - 1
        return SimpleNamespace(
            tag=_EventType.TorchOp,
            name=name,
            start_time_ns=start,
            end_time_ns=self.tick(),
            start_tid=7,
            extra_fields=SimpleNamespace(sequence_number=sequence, scope=kind),
            children=list(inner),
        )

    def stamp(self, kind: StampKind, argument: object = "") -> Any:
        return self.scope(label(kind, argument))

    def bookend(self) -> Any:
        one = self.allocation(0xB0, 1)
        return self.scope(label(StampKind.BOOKEND), one, self.allocation(0xB0, -1))


def converted(
    *nodes: Any, batches: Any = (), frames: Any = (), devices: Any = (CPU,)
) -> tuple[Tables, tuple[str, ...]]:
    """The tables of an event tree, and their strings."""
    strings = StringTable()
    tables = convert(nodes, strings, devices, batches, frames)
    return tables, strings.strings()


def tables_of(build: Callable[[Tree], list[Any]], **how: Any) -> tuple[Tables, tuple[str, ...]]:
    """Tables of what ``build`` makes, between bookends."""
    tree = Tree()
    first, nodes, last = tree.bookend(), build(tree), tree.bookend()
    return converted(first, *nodes, last, **how)


def names(tables: Tables, strings: tuple) -> list[tuple[str, ScopeKind, int]]:
    rows = zip(tables.scopes.name, tables.scopes.kind, tables.scopes.parent, strict=True)
    return [(strings[name], ScopeKind(kind), int(parent)) for name, kind, parent in rows]


def test_events_lie_in_their_innermost_scope():
    tables, strings = tables_of(
        lambda tree: [
            tree.scope("aten::outer", tree.allocation(0x10, 8), tree.scope("aten::inner", tree.allocation(0x20, 4)))
        ]
    )
    assert names(tables, strings) == [("aten::outer", ScopeKind.OPERATOR, -1), ("aten::inner", ScopeKind.OPERATOR, 0)]
    assert tables.events.address.tolist() == [0x10, 0x20]
    assert tables.events.size.tolist() == [8, 4]
    assert tables.events.scope.tolist() == [0, 1]


def test_the_allocators_totals_are_kept_and_bookends_are_not_among_the_events():
    tables, _ = tables_of(lambda tree: [tree.allocation(0x10, 8), tree.allocation(0x10, -8)])
    assert tables.events.total.tolist() == [508, 500]
    # without the bookend's own byte
    assert [total for _, total in tables.bookends] == [500, 500]


def test_events_are_sorted_by_time_whatever_tree_they_are_in():
    def build(tree: Tree) -> list[Any]:
        early, late = tree.allocation(0x10, 1), tree.allocation(0x20, 2)
        return [tree.scope("aten::second", late), early]

    tables, _ = tables_of(build)
    assert tables.events.address.tolist() == [0x10, 0x20]


def test_what_happens_before_the_first_bookend_or_after_the_last_is_ours():
    tree = Tree()
    before, first = tree.allocation(0x10, 8), tree.bookend()
    kept, last = tree.allocation(0x20, 4), tree.bookend()
    after = tree.allocation(0x20, -4)
    tables, _ = converted(before, first, kept, last, after)
    assert tables.events.address.tolist() == [0x20]
    assert [total for _, total in tables.bookends] == [508, 512]


def test_events_of_other_devices_are_left_out():
    tables, _ = tables_of(lambda tree: [tree.allocation(0x10, 8, CUDA), tree.allocation(0x20, 4)])
    assert tables.events.address.tolist() == [0x20]


def test_devices_are_numbered_in_the_order_given():
    tables, _ = tables_of(
        lambda tree: [tree.allocation(0x10, 512, CUDA), tree.allocation(0x20, 4)], devices=(CUDA, CPU)
    )
    assert tables.events.device.tolist() == [0, 1]
    # what was asked for is known on the CPU alone
    assert tables.events.requested.tolist() == [UNKNOWN, 4]


def test_events_of_no_bytes_are_no_events():
    tables, _ = tables_of(lambda tree: [tree.allocation(0x10, 0), tree.allocation(0x20, 4)])
    assert tables.events.address.tolist() == [0x20]


def test_a_node_and_its_own_call_are_one():
    tables, strings = tables_of(
        lambda tree: [
            tree.scope(
                NODE_PREFIX + "MulBackward0",
                tree.scope("MulBackward0", tree.allocation(0x10, 8), sequence=3, kind=RecordScope.BACKWARD_FUNCTION),
                sequence=3,
            )
        ]
    )
    assert names(tables, strings) == [("MulBackward0", ScopeKind.AUTOGRAD_NODE, -1)]
    assert tables.scopes.sequence.tolist() == [3]
    assert tables.events.scope.tolist() == [0]


def test_an_accumulation_has_a_short_name_and_no_sequence_number():
    tables, strings = tables_of(
        lambda tree: [tree.scope(NODE_PREFIX + "torch::autograd::AccumulateGrad", tree.allocation(0x10, 8))]
    )
    assert names(tables, strings) == [("AccumulateGrad", ScopeKind.AUTOGRAD_NODE, -1)]
    assert tables.scopes.sequence.tolist() == [UNKNOWN]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("aten::mul", RecordScope.FUNCTION, ScopeKind.OPERATOR),
        ("Optimizer.step#AdamW.step", RecordScope.USER_SCOPE, ScopeKind.USER),
        ("## Call CompiledFxGraph abc ##", RecordScope.FUNCTION, ScopeKind.COMPILED_GRAPH),
        ("Torch-Compiled Region: 0/0", RecordScope.USER_SCOPE, ScopeKind.COMPILED_GRAPH),
        ("MulBackward0", RecordScope.BACKWARD_FUNCTION, ScopeKind.AUTOGRAD_NODE),
        ("vramscope:module:a.b", RecordScope.USER_SCOPE, ScopeKind.MODULE),
    ],
)
def test_kinds_of_scopes(name, kind, expected):
    tables, strings = tables_of(lambda tree: [tree.scope(name, tree.allocation(0x10, 8), kind=kind)])
    ((shown, found, _),) = names(tables, strings)
    assert found == expected
    assert shown == ("a.b" if expected is ScopeKind.MODULE else name)


def test_operators_that_say_nothing_of_any_event_are_dropped():
    tables, strings = tables_of(
        lambda tree: [
            tree.scope("aten::view"),
            tree.scope("aten::mul", tree.allocation(0x10, 8)),
            tree.scope("aten::t"),
        ]
    )
    assert names(tables, strings) == [("aten::mul", ScopeKind.OPERATOR, -1)]


def test_a_forward_operator_is_kept_for_the_node_it_made():
    tables, strings = tables_of(
        lambda tree: [
            tree.scope("vramscope:module:a", tree.scope("aten::view", sequence=3), tree.scope("aten::t", sequence=4)),
            tree.scope(NODE_PREFIX + "ViewBackward0", tree.allocation(0x10, 8), sequence=3),
            tree.scope(NODE_PREFIX + "TBackward0", sequence=4),
        ]
    )
    assert names(tables, strings) == [
        ("a", ScopeKind.MODULE, -1),
        ("aten::view", ScopeKind.OPERATOR, 0),
        ("ViewBackward0", ScopeKind.AUTOGRAD_NODE, -1),
    ]


def test_steps_and_phases_last_from_stamp_to_stamp():
    def build(tree: Tree) -> list[Any]:
        return [
            tree.stamp(StampKind.STEP_BEGIN, 4),
            tree.stamp(StampKind.PHASE_BEGIN, "1 backward"),
            tree.allocation(0x10, 8),
            tree.stamp(StampKind.PHASE_END, "0 backward"),
            tree.stamp(StampKind.STEP_END),
        ]

    tables, strings = tables_of(build)
    assert names(tables, strings) == [("step", ScopeKind.STEP, -1), ("backward", ScopeKind.PHASE, 0)]
    assert tables.scopes.value.tolist() == [4, 1]
    (step_start, phase_start), (step_end, phase_end) = tables.scopes.start_ns, tables.scopes.end_ns
    assert step_start < phase_start < tables.events.time_ns[0] < phase_end < step_end
    assert tables.events.scope.tolist() == [NO_SCOPE]  # periods are no ancestors


def test_a_phase_that_a_step_leaves_open_ends_with_it():
    def build(tree: Tree) -> list[Any]:
        return [
            tree.stamp(StampKind.STEP_BEGIN, 0),
            tree.stamp(StampKind.PHASE_BEGIN, "0 forward"),
            tree.stamp(StampKind.STEP_END),
            tree.stamp(StampKind.PHASE_END, "0 forward"),  # too late, and of no phase that is open
            tree.stamp(StampKind.STEP_BEGIN, 1),
            tree.stamp(StampKind.STEP_END),
        ]

    tables, strings = tables_of(build)
    assert names(tables, strings) == [
        ("step", ScopeKind.STEP, -1),
        ("forward", ScopeKind.PHASE, 0),
        ("step", ScopeKind.STEP, -1),
    ]
    first, phase, second = zip(tables.scopes.start_ns.tolist(), tables.scopes.end_ns.tolist(), strict=True)
    assert phase[1] == first[1] < second[0] < second[1]


def test_what_an_interrupted_run_leaves_open_ends_with_the_last_stamp():
    def build(tree: Tree) -> list[Any]:
        return [
            tree.stamp(StampKind.STEP_BEGIN, 0),
            tree.stamp(StampKind.PHASE_BEGIN, "0 forward"),
            tree.allocation(0x10, 8),
            tree.stamp(StampKind.MARKS, 0),
        ]

    tables, _ = tables_of(build, batches=[[]])
    last = tables.scopes.end_ns.max()
    assert tables.scopes.end_ns.tolist() == [last, last]
    assert last > tables.events.time_ns[0]


def test_marks_are_the_labels_of_their_batch_at_its_moment():
    labels = [
        Label(MarkKind.PARAMETER, "a.weight", "", 0x10, 8, CPU),
        Label(MarkKind.GRADIENT, "b", "owner", 0x20, 4, CPU),
        Label(MarkKind.INPUT, "elsewhere", "", 0x30, 4, torch.device("meta")),
    ]
    tables, strings = tables_of(
        lambda tree: [tree.allocation(0x10, 8), tree.stamp(StampKind.MARKS, 1), tree.allocation(0x20, 4)],
        batches=[[], labels],
    )
    marks = tables.marks
    assert [strings[name] for name in marks.name] == ["a.weight", "b"]
    assert [strings[name] for name in marks.owner] == ["", "owner"]
    assert (marks.address.tolist(), marks.size.tolist()) == ([0x10, 0x20], [8, 4])
    assert tables.events.time_ns[0] < marks.time_ns[0] < tables.events.time_ns[1]


def test_what_is_freed_among_workspaces_was_one_when_their_scope_began():
    def build(tree: Tree) -> list[Any]:
        held = tree.allocation(0x10, 64)
        freed = [tree.allocation(0x10, -64), tree.allocation(0x20, 8), tree.allocation(0x30, -16, CUDA)]
        return [held, tree.scope(label(StampKind.WORKSPACES), *freed)]

    tables, _ = tables_of(build)
    (row,) = zip(tables.marks.time_ns, tables.marks.address, tables.marks.size, tables.marks.device, strict=True)
    # just before the free of it; nothing is known of devices that are not recorded
    assert row == (tables.events.time_ns[1] - 1, 0x10, 64, 0)
    assert tables.marks.kind.tolist() == [MarkKind.LIBRARY_WORKSPACE]
    assert tables.events.size.tolist() == [64, -64, 8]
    assert tables.events.scope.tolist() == [NO_SCOPE] * 3


def test_seeds_that_are_gone_are_known_by_number():
    def build(tree: Tree) -> list[Any]:
        return [tree.stamp(StampKind.SEEDS_GONE, "2"), tree.stamp(StampKind.SEEDS_GONE, "0,5")]

    tables, _ = tables_of(build)
    assert set(tables.seed_ends) == {0, 2, 5}
    assert tables.seed_ends[2] < tables.seed_ends[0] == tables.seed_ends[5]


def test_lines_are_innermost_scopes_of_the_events_that_follow_them():
    def build(tree: Tree) -> list[Any]:
        return [
            tree.allocation(0x10, 1),
            tree.stamp(StampKind.LINE, 1),
            tree.scope("aten::mul", tree.allocation(0x20, 2)),
            tree.allocation(0x30, 3),
            tree.stamp(StampKind.LINE, -1),
            tree.allocation(0x40, 4),
        ]

    tables, strings = tables_of(build, frames=[("other|f", 1), ("file|function", 17)])
    scopes = tables.scopes
    found = [(int(scopes.kind[row]), int(scopes.value[row])) if row >= 0 else None for row in tables.events.scope]
    line = (ScopeKind.PYTHON_FRAME, 17)
    assert found == [None, line, line, None]
    # inside the operator where there is one, in nothing where there is none
    parents = [int(scopes.parent[row]) for row in tables.events.scope[1:3]]
    assert [strings[scopes.name[parent]] if parent >= 0 else None for parent in parents] == ["aten::mul", None]


def test_a_tree_deeper_than_pythons_stack():
    def build(tree: Tree) -> list[Any]:
        node = tree.allocation(0x10, 8)
        for _ in range(5000):
            node = tree.scope("aten::deeper", node)
        return [node]

    tables, _ = tables_of(build)
    assert len(tables.scopes) == 5000
    assert tables.events.scope.tolist() == [4999]


@pytest.mark.parametrize("bookends", [0, 1])
def test_missing_bookends_mean_that_somebody_took_the_events(bookends):
    tree = Tree()
    with pytest.raises(RecordingError, match=r"another torch\.profiler"):
        converted(*(tree.bookend() for _ in range(bookends)))
