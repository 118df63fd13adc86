"""Which blocks are older than a recording that comes to know of them late."""

import pytest
import torch

from vramscope.recorders.labels import Label
from vramscope.recorders.seeds import SeedWatch
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
