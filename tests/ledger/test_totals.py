"""What the CPU allocator's own total does not tell: mapped memory, and blocks whose size it remembers wrongly."""

from dataclasses import replace

import numpy as np

from helpers import BASE_TOTAL, Script, assert_agrees
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import Recording


def with_totals(recording: Recording, totals: list[int], sizes: list[int] | None = None) -> Ledger:
    """The ledger of a recording whose allocator says these totals, and sizes, of its events."""
    events = replace(recording.events, total=np.array(totals))
    if sizes is not None:
        events = replace(events, size=np.array(sizes))
    (device,) = recording.devices
    own = [total for total in totals if total]
    return Ledger(
        replace(recording, events=events, devices=(replace(device, name="cpu", end_total=own[-1] if own else 0),))
    )


def test_mapped_memory_is_added_to_the_allocators_total() -> None:
    script = Script()
    script.alloc(0x10, 10)
    script.alloc(0x1000, 100)  # mapped: no allocator has a total of 0 after it has given out 100
    script.alloc(0x20, 5)
    script.free(0x1000, 100)
    script.free(0x10, 10)
    ledger = with_totals(script.recording(), [BASE_TOTAL + 10, 0, BASE_TOTAL + 15, 0, BASE_TOTAL + 5])
    assert ledger.allocator_totals().tolist() == [10, 110, 115, 15, 5]
    assert_agrees(ledger)


def test_older_mapped_memory_counts_until_it_is_unmapped() -> None:
    script = Script()
    script.alloc(0x10, 10)
    script.free(0x1000, 100)  # nobody knew of it
    script.free(0x10, 10)
    ledger = with_totals(script.recording(), [BASE_TOTAL + 10, 0, BASE_TOTAL])
    assert ledger.allocator_totals().tolist() == [110, 10, 0]
    assert_agrees(ledger)


def test_an_allocator_that_is_empty_again_has_unmapped_nothing() -> None:
    script = Script()
    script.seed(0x10, BASE_TOTAL)
    script.alloc(0x20, 7)
    script.free(0x20, 7)
    script.free(0x10, BASE_TOTAL)
    ledger = with_totals(script.recording(), [BASE_TOTAL + 7, BASE_TOTAL, 0])
    assert ledger.allocator_totals().tolist() == [BASE_TOTAL + 7, BASE_TOTAL, 0]
    assert ledger.ledger_totals().tolist() == [BASE_TOTAL + 7, BASE_TOTAL, 0]


def test_the_end_of_an_older_block_takes_what_its_live_object_had() -> None:
    script = Script()
    script.seed(0x10, 128)
    script.alloc(0x20, 7)
    script.free(0x10, 128)
    script.alloc(0x30, 1)
    # the allocator remembers a block of 16 bytes at that place, which is long gone
    totals = [BASE_TOTAL + 7, BASE_TOTAL - 9, BASE_TOTAL - 8]
    ledger = with_totals(script.recording(), totals, [7, -16, 1])
    assert ledger.allocator_totals().tolist() == [135, 7, 8]
    assert_agrees(ledger)


def test_a_free_within_the_recording_must_have_its_allocations_size() -> None:
    script = Script()
    script.alloc(0x20, 7)
    script.free(0x20, 7)
    ledger = with_totals(script.recording(), [BASE_TOTAL + 7, BASE_TOTAL + 1], [7, -6])
    assert ledger.max_disagreement_bytes() == 1
