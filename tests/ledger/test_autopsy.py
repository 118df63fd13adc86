"""The autopsy of a failed allocation, on recordings written by hand."""

from dataclasses import replace

import pytest
from tests.helpers import MarkKind, Script

from vramscope.ledger.autopsy import Autopsy, autopsy
from vramscope.ledger.categories import Category
from vramscope.ledger.counters import Fragments
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.counters import with_counters
from vramscope.recording.counters import DeviceCounter, FailureCounter, LayoutCounter
from vramscope.recording.recording import DEVICE_MEMORY
from vramscope.views.autopsy import autopsy_text

ASKED, AVAILABLE = 1_000_000, 400_000


def failing(script: Script, asked: int = ASKED, available: int = AVAILABLE) -> list[tuple[int, str, int, int]]:
    """The counters of an allocation that fails now."""
    now = script._tick()
    return [(now, FailureCounter.ASKED, 0, asked), (now, FailureCounter.AVAILABLE, 0, available)]


def looked_at(script: Script, counters: list[tuple[int, str, int, int]], **workload: object) -> Autopsy:
    recording = with_counters(script.recording(), counters)
    found = autopsy(Ledger(replace(recording, workload={**recording.workload, **workload})))
    assert found is not None
    return found


@pytest.fixture
def found() -> Autopsy:
    script = Script()
    script.modules = [["", "Net"], ["blocks", "ModuleList"], ["blocks.0", "Block"], ["blocks.1", "Block"]]
    with script.step(0):
        script.alloc(1, 200_000, requested=199_000)  # the allocator rounds up, and what it gave is what is missing
        script.mark(MarkKind.PARAMETER, "blocks.0.weight", 1)
        script.alloc(2, 600_000)
        script.mark(MarkKind.OPTIMIZER_STATE, "exp_avg", 2, owner="blocks.0.weight")
        script.alloc(3, 200_000)
        script.mark(MarkKind.GRADIENT, "blocks.0.weight", 3, owner="blocks.0.weight")
        with script.phase("forward"):
            for number, size in enumerate((300_000, 500_000)):
                with script.module(f"blocks.{number}"), script.operator("aten::relu"):
                    script.alloc(10 + number, size)
            with script.module("blocks.1"), script.operator("aten::mm"):
                counters = failing(script)
        # after the failure: none of this may count
        script.alloc(99, 7_000_000)
    return looked_at(script, counters, batch=8, optimizer="AdamW")


def test_the_moment_is_that_of_the_failure(found: Autopsy) -> None:
    assert (found.asked_bytes, found.available_bytes, found.short_bytes) == (ASKED, AVAILABLE, ASKED - AVAILABLE)
    assert (found.phase, found.module, found.operator) == ("forward", "blocks.1", "aten::mm")
    assert found.held_bytes == 1_800_000  # 200 + 600 + 200 + 300 + 500 thousand
    assert sum(found.by_category.values()) == found.held_bytes
    assert found.by_category[Category.ACTIVATIONS] == 800_000


def test_modules_add_up_to_what_was_held(found: Autopsy) -> None:
    assert dict(found.modules) == {"blocks.0": 1_300_000, "blocks.1": 500_000}
    assert [block.facts.size_bytes for block in found.blocks][:2] == [600_000, 500_000]


def test_three_remedies_are_reckoned_from_what_was_held(found: Autopsy) -> None:
    # half the batch: (800,000 activations + 1,000,000 asked) / 2; no momentum: all 600,000 of state, 8 bits: 3/4 of it
    saved = {relief.what: relief.saved_bytes for relief in found.remedies}
    assert saved == {
        "half the batch": 900_000,
        "SGD without momentum": 600_000,
        "an optimizer with 8-bit state": 450_000,
    }


def test_recomputing_saves_all_but_the_fullest_of_equal_modules() -> None:
    script = Script()
    script.modules = [[f"h.{number}", "Block"] for number in range(3)] + [["head", "Linear"]]
    with script.step(0), script.phase("forward"):
        for number, size in enumerate((300, 500, 400)):
            with script.module(f"h.{number}"), script.operator("aten::relu"):
                script.alloc(10 + number, size)
        with script.module("head"), script.operator("aten::mm"):
            counters = failing(script, 100, 50)
    found = looked_at(script, counters, batch=1)
    assert [(relief.what, relief.saved_bytes) for relief in found.remedies] == [("activation checkpointing", 700)]
    assert "3 Block of h" in found.remedies[0].basis
    assert found.modules == (("h.1", 500), ("h.2", 400), ("h.0", 300))  # the largest first


@pytest.mark.parametrize(("phase", "remedies"), [("forward", [("optimizer.zero_grad", 5000)]), ("backward", [])])
def test_gradients_kept_into_the_forward_pass_are_named(phase: str, remedies: list[tuple[str, int]]) -> None:
    script = Script()
    with script.step(0):
        script.alloc(1, 5000)
        script.mark(MarkKind.GRADIENT, "weight", 1, owner="weight")
        with script.phase(phase), script.operator("aten::mm"):
            counters = failing(script, 100, 50)
    found = looked_at(script, counters, batch=1)
    assert [(relief.what.split("(")[0], relief.saved_bytes) for relief in found.remedies] == remedies


def test_free_memory_that_is_stuck_is_a_remedy_of_its_own() -> None:
    script = Script()
    script.alloc(1, 1000)
    counters = failing(script, 900, 50)
    layout = zip(LayoutCounter, (10, 700, 5, 30, 2), strict=True)
    counters += [(counters[0][0], name, 0, value) for name, value in layout]
    found = looked_at(script, counters, batch=1)
    assert found.fragments == Fragments(10, 700, 5, largest_free_bytes=30, segments=2)
    assert found.reserved_bytes == 1000 + 10 + 700 + 5
    # a block of 30 would have fitted, and a segment where 50 are free and 10 more go back
    assert (found.fitting_bytes, found.short_bytes) == (60, 840)
    assert [(relief.what, relief.saved_bytes) for relief in found.remedies] == [
        ("PYTORCH_ALLOC_CONF=expandable_segments:True", 700)
    ]


def test_other_processes_on_the_device_are_a_remedy() -> None:
    script = Script()
    with script.step(0), script.phase("forward"), script.operator("aten::mm"):
        now = script._tick()
        sample = [(now, DeviceCounter.USED, 0, 9000), (now, DeviceCounter.PROCESS, 0, 2000)]
        counters = [*sample, *failing(script, 100, 50)]
    found = looked_at(script, counters, batch=1)
    assert [(relief.what, relief.saved_bytes) for relief in found.remedies] == [
        ("ending other processes on the GPU", 7000)
    ]


def test_what_nobody_told_is_left_open() -> None:
    script = Script()
    with script.phase("forward"), script.operator("aten::mm"):
        counters = failing(script, -1, -1)
    found = looked_at(script, counters)
    assert (found.asked_bytes, found.fitting_bytes, found.short_bytes) == (None, None, None)
    assert looked_at(script, failing(script, 20, -1)).short_bytes is None
    assert looked_at(script, failing(script, -1, 20)).short_bytes is None
    assert "an unknown size asked for" in autopsy_text(found)


def test_the_last_of_several_failures_is_looked_at() -> None:
    script = Script()
    with script.phase("forward"), script.operator("aten::mm"):
        first = failing(script, 10, 5)
        script.alloc(1, 512)
        second = failing(script, 20, 5)
    with script.phase("optimizer"), script.operator("aten::add"):  # the program went on
        script.alloc(2, 512)
    found = looked_at(script, [*first, *second])
    assert (found.asked_bytes, found.operator, found.phase) == (20, "aten::mm", "forward")


def test_without_a_failure_there_is_no_autopsy() -> None:
    script = Script()
    script.alloc(1, 512)
    assert autopsy(script.ledger()) is None


def test_the_text_has_every_figure_and_only_printable_characters(found: Autopsy) -> None:
    text = autopsy_text(replace(found, module="a\x1b[31m"), encoding="ascii")
    for words in ("1,000,000 B) asked for", "400,000 B) would have fitted; 585.9 KiB short", "aten::mm", "blocks.0"):
        assert words in text
    assert "enough for this request" in text and "not enough by itself" in text
    assert "\x1b" not in text
    assert text.isascii()


def test_a_size_from_an_errors_text_is_not_shown_to_the_byte() -> None:
    script = Script()
    with script.phase("forward"), script.operator("aten::mm"):
        script.alloc(1, 512)
        counters = failing(script)
        counters.append((counters[0][0], FailureCounter.ROUNDED, 0, 1))
    text = autopsy_text(looked_at(script, counters))
    assert "about 976.6 KiB asked for" in text and "at most about 390.6 KiB would have fitted" in text
    assert "no source lines in this recording" in text


def test_a_request_beyond_the_whole_device_is_called_hopeless() -> None:
    script = Script()
    counters = [(0, DEVICE_MEMORY, 0, ASKED - 1), *failing(script)]
    assert "the request alone is more than cpu has" in autopsy_text(looked_at(script, counters))
    counters[0] = (0, DEVICE_MEMORY, 0, ASKED)
    assert "alone" not in autopsy_text(looked_at(script, counters))


def test_room_that_a_limit_forbade_is_no_shortage() -> None:
    script = Script()
    text = autopsy_text(looked_at(script, failing(script, 100, 100)))
    assert "a limit forbade it" in text and "short" not in text
