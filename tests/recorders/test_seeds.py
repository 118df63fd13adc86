"""Which blocks are older than a recording that comes to know of them late."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers import Script
from vramscope.recorders.labels import Label, label_tensor
from vramscope.recorders.seeds import SeedWatch, unknown_inputs
from vramscope.recording.recording import Events, MarkKind, Marks

CPU = torch.device("cpu")
ADDRESS, SIZE, BORN_NS = 0x1000, 64, 20


@pytest.mark.parametrize(
    ("earlier", "seeds"),
    [
        ([], 0),
        ([MarkKind.INPUT], 0),  # a batch in numpy's memory has lain there, which nobody had to allocate
        ([MarkKind.TARGET], 0),
        ([MarkKind.BUFFER], 1),  # it was held before anything was seen to begin there
    ],
    ids=str,
)
def test_what_was_seen_to_begin_is_not_older(earlier: list[MarkKind], seeds: int) -> None:
    watch = SeedWatch([CPU])
    watch.suspect([Label(MarkKind.PARAMETER, "weight", "", ADDRESS, SIZE, CPU)])
    events = Events.from_rows([(BORN_NS, ADDRESS, SIZE, SIZE, 0, 0, SIZE, 0)])
    kinds = [(BORN_NS - 10, kind) for kind in earlier] + [(BORN_NS + 10, MarkKind.PARAMETER)]
    marks = Marks.from_rows([(time_ns, ADDRESS, kind, 0, 0, SIZE, 0) for time_ns, kind in kinds])
    assert len(watch.rows({}, events, marks)) == seeds


def from_numpy() -> torch.Tensor:
    return torch.from_numpy(np.ones(16, dtype=np.float32))


def from_torch() -> torch.Tensor:
    return torch.ones(16)


@pytest.mark.parametrize(
    ("kind", "made", "seeds"),
    [
        (MarkKind.BUFFER, from_numpy, 0),  # another array each time, it may be
        (MarkKind.BUFFER, from_torch, 1),
        (MarkKind.PARAMETER, from_numpy, 1),
    ],
)
def test_buffers_in_memory_of_numpys_are_not_taken_for_older(
    kind: MarkKind, made: Callable[[], torch.Tensor], seeds: int
) -> None:
    watch, tensor = SeedWatch([CPU]), made()
    watch.suspect(label_tensor(kind, "it", tensor))
    assert len(watch.rows({}, Events.from_rows([]), Marks.from_rows([]))) == seeds


def test_what_is_on_a_device_that_is_not_recorded_is_no_seed() -> None:
    watch = SeedWatch([CPU])
    labels = [Label(MarkKind.PARAMETER, "weight", "", ADDRESS, SIZE, torch.device("cuda:1"))]
    watch.watch(labels)
    watch.suspect(labels)
    assert len(watch.rows({}, Events.from_rows([]), Marks.from_rows([]))) == 0


def test_inputs_of_which_no_block_is_known_are_counted() -> None:
    script = Script()
    script.seed(0x10, SIZE)
    script.mark(MarkKind.INPUT, "older", 0x10)
    script.alloc(0x20, SIZE)
    script.mark(MarkKind.INPUT, "seen to begin", 0x20)
    script.mark(MarkKind.INPUT, "of nobody's", 0x30)
    script.mark(MarkKind.INPUT, "where something begins later", 0x40)
    script.alloc(0x40, SIZE)
    assert unknown_inputs(script.recording()) == 2


def test_fake_tensors_have_no_memory_that_could_be_older() -> None:
    with FakeTensorMode():
        labels = list(label_tensor(MarkKind.PARAMETER, "weight", torch.empty(SIZE)))
    assert [label.device for label in labels] == [CPU]
    watch = SeedWatch([CPU])
    watch.watch(labels)
    watch.suspect(labels)
    assert len(watch.rows({}, Events.from_rows([]), Marks.from_rows([]))) == 0


@pytest.mark.parametrize("takes_note", [True, False])
def test_the_end_of_memory_is_told_of_as_it_goes(takes_note: bool) -> None:
    told: list[int] = []

    def on_end(number: int) -> bool:
        told.append(number)
        return takes_note

    parameter, alias = torch.nn.Parameter(torch.ones(SIZE)), torch.ones(SIZE)
    watch = SeedWatch([CPU], on_end)
    for tensor in (parameter, alias):
        watch.watch(label_tensor(MarkKind.PARAMETER, "weight", tensor))
    other = alias.detach()
    del tensor, alias
    assert told == []
    parameter.data = torch.zeros(SIZE)
    assert told == [0]
    del other
    assert told == [0, 1]
    assert watch.ended() == ([] if takes_note else [0, 1])


def test_the_end_of_what_was_carried_from_one_recording_to_the_next_is_told_of_too() -> None:
    told: list[int] = []
    tensor = torch.ones(SIZE)
    earlier, watch = SeedWatch([CPU]), SeedWatch([CPU], lambda number: told.append(number) is None)
    earlier.watch(label_tensor(MarkKind.PARAMETER, "weight", tensor))
    for place, storage in earlier.watched().items():
        watch.carry(place, SIZE, storage)
    assert told == []
    del tensor
    assert (told, watch.ended()) == ([0], [])


def test_what_goes_after_the_recording_is_not_told_of() -> None:
    told: list[int] = []
    watch = SeedWatch([CPU], lambda number: bool(told.append(number)))
    tensor = torch.ones(SIZE)
    watch.watch(label_tensor(MarkKind.PARAMETER, "weight", tensor))
    watch.remove()
    del tensor
    assert told == []
