"""Joining marks to blocks, by address and lifetime."""

from helpers import MarkKind, Script
from vramscope.ledger.blocks import pair_events
from vramscope.ledger.labels import deciding_marks


def labels(script: Script) -> dict[tuple[int, int], str | None]:
    """The deciding mark's name by (address, birth) of every block."""
    recording = script.recording()
    blocks = pair_events(recording)
    deciding = deciding_marks(recording, blocks).tolist()
    names = [None if row < 0 else recording.strings[recording.marks.name[row]] for row in deciding]
    return dict(zip(zip(blocks.address.tolist(), blocks.birth.tolist(), strict=True), names, strict=True))


def test_a_mark_belongs_to_the_block_alive_at_its_moment():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.GRADIENT, "first", 0x10)
    script.free(0x10, 1)
    script.alloc(0x10, 1)
    script.free(0x10, 1)
    script.alloc(0x10, 1)
    script.mark(MarkKind.GRADIENT, "third", 0x10)
    assert labels(script) == {(0x10, 0): "first", (0x10, 2): None, (0x10, 4): "third"}


def test_a_mark_between_two_lives_belongs_to_neither():
    script = Script()
    script.alloc(0x10, 1)
    script.free(0x10, 1)
    script.mark(MarkKind.PARAMETER, "stale", 0x10)
    script.alloc(0x10, 1)
    assert labels(script) == {(0x10, 0): None, (0x10, 2): None}


def test_a_mark_just_before_the_birth_does_not_count():
    script = Script()
    script.mark(MarkKind.PARAMETER, "early", 0x10)
    script.alloc(0x10, 1)
    assert labels(script) == {(0x10, 0): None}


def test_a_mark_just_after_the_birth_counts():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.PARAMETER, "p", 0x10)
    script.free(0x10, 1)
    assert labels(script) == {(0x10, 0): "p"}


def test_a_mark_at_the_very_end_counts():
    script = Script()
    script.alloc(0x10, 1)
    script.alloc(0x20, 1)
    script.mark(MarkKind.PARAMETER, "p", 0x10)
    assert labels(script) == {(0x10, 0): "p", (0x20, 1): None}


def test_seeds_can_be_marked():
    script = Script()
    script.seed(0x10, 1)
    script.mark(MarkKind.PARAMETER, "p", 0x10)
    script.alloc(0x20, 1)
    assert labels(script) == {(0x10, -1): "p", (0x20, 0): None}


def test_a_block_freed_later_without_an_allocation_can_be_marked():
    script = Script()
    script.mark(MarkKind.GRADIENT, "old", 0x10)
    script.free(0x10, 1)
    assert labels(script) == {(0x10, -1): "old"}


def test_an_unknown_address_is_nobodys():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.PARAMETER, "below", 0x8)
    script.mark(MarkKind.PARAMETER, "between", 0x18)
    script.alloc(0x20, 1)
    script.mark(MarkKind.PARAMETER, "above", 0x99)
    assert labels(script) == {(0x10, 0): None, (0x20, 1): None}


def test_a_mark_holds_on_its_own_device_only():
    script = Script(devices=3)
    script.alloc(0x10, 1, device=0)
    script.alloc(0x10, 1, device=1)
    script.mark(MarkKind.PARAMETER, "second device", 0x10, device=1)
    script.mark(MarkKind.PARAMETER, "third device, on which there is nothing", 0x10, device=2)
    recording = script.recording()
    blocks = pair_events(recording)
    deciding = deciding_marks(recording, blocks)
    assert {int(d): int(m) for d, m in zip(blocks.device, deciding, strict=True)} == {0: -1, 1: 0}


def test_a_parameter_stays_one_whatever_else_refers_to_it():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.ROOT_GRADIENT, "root", 0x10)
    script.mark(MarkKind.GRADIENT, "gradient", 0x10)
    script.mark(MarkKind.OPTIMIZER_STATE, "state", 0x10)
    script.mark(MarkKind.INPUT, "input", 0x10)
    script.mark(MarkKind.BUFFER, "buffer", 0x10)
    script.mark(MarkKind.PARAMETER, "parameter", 0x10)
    assert labels(script) == {(0x10, 0): "parameter"}


def test_of_equal_marks_the_first_decides():
    script = Script()
    script.alloc(0x10, 1)
    script.mark(MarkKind.PARAMETER, "embedding.weight", 0x10)
    script.mark(MarkKind.PARAMETER, "head.weight", 0x10)
    assert labels(script) == {(0x10, 0): "embedding.weight"}


def test_many_addresses_at_once():
    script = Script()
    for number in range(50):
        script.alloc(0x1000 - number * 16, 1)  # descending addresses: order of birth is not order of address
    for number in range(0, 50, 3):
        script.mark(MarkKind.PARAMETER, f"p{number}", 0x1000 - number * 16)
    expected = {(0x1000 - n * 16, n): f"p{n}" if n % 3 == 0 else None for n in range(50)}
    assert labels(script) == expected


def test_marks_without_any_block():
    script = Script()
    script.mark(MarkKind.PARAMETER, "p", 0x10)
    assert labels(script) == {}
