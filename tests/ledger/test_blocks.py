"""Pairing events into blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from helpers import Script
from vramscope.ledger.blocks import BEFORE, pair_events


def lives(script: Script) -> list[tuple[int, int, int, int]]:
    """(address, size, birth, death) of every block, by address and birth."""
    blocks = pair_events(script.recording())
    rows = zip(blocks.address, blocks.size, blocks.birth, blocks.death, strict=True)
    return sorted((int(a), int(s), int(b), int(d)) for a, s, b, d in rows)


def test_an_allocation_and_its_free_are_one_block():
    script = Script()
    script.alloc(0x10, 64)
    script.free(0x10, 64)
    assert lives(script) == [(0x10, 64, 0, 1)]


def test_a_block_that_is_never_freed_outlives_the_recording():
    script = Script()
    script.alloc(0x10, 64)
    script.alloc(0x20, 32)
    script.free(0x20, 32)
    # three events: death is their number, 3
    assert lives(script) == [(0x10, 64, 0, 3), (0x20, 32, 1, 2)]


def test_a_reused_address_makes_a_block_for_each_life():
    script = Script()
    for size in (64, 128, 64):
        script.alloc(0x10, size)
        script.free(0x10, size)
    assert lives(script) == [(0x10, 64, 0, 1), (0x10, 64, 4, 5), (0x10, 128, 2, 3)]


def test_a_seed_is_born_before_and_dies_by_its_free():
    script = Script()
    script.seed(0x10, 100)
    script.seed(0x20, 50)
    script.free(0x10, 100)
    assert lives(script) == [(0x10, 100, BEFORE, 0), (0x20, 50, BEFORE, 1)]


def test_a_seed_found_gone_dies_before_the_next_event():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x20, 1)
    script.gone(0x10)
    script.alloc(0x30, 1)
    assert lives(script) == [(0x10, 100, BEFORE, 1), (0x20, 1, 0, 2), (0x30, 1, 1, 2)]
    assert pair_events(script.recording()).silent.tolist() == [True, False, False]


def test_a_seed_whose_place_is_given_away_must_be_dead():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x20, 1)
    script.alloc(0x10, 40)
    assert lives(script) == [(0x10, 40, 1, 2), (0x10, 100, BEFORE, 1), (0x20, 1, 0, 2)]


def test_a_seed_found_gone_after_its_place_was_given_away_died_when_it_was():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x10, 40)
    script.alloc(0x20, 1)
    script.gone(0x10)
    assert lives(script) == [(0x10, 40, 0, 2), (0x10, 100, BEFORE, 0), (0x20, 1, 1, 2)]


def test_a_seed_whose_free_was_told_needs_no_finding():
    script = Script()
    script.seed(0x10, 100)
    script.free(0x10, 100)
    script.gone(0x10)
    assert lives(script) == [(0x10, 100, BEFORE, 0)]
    assert not pair_events(script.recording()).silent.any()


def test_a_seed_that_outlives_the_recording_did_not_go_silently():
    script = Script()
    script.seed(0x10, 100)
    script.alloc(0x20, 1)
    assert not pair_events(script.recording()).silent.any()


def test_a_free_without_an_allocation_is_a_block_from_before():
    script = Script()
    script.alloc(0x20, 8)
    script.free(0x10, 100)
    assert lives(script) == [(0x10, 100, BEFORE, 1), (0x20, 8, 0, 2)]


def test_after_a_lone_free_the_address_starts_anew():
    script = Script()
    script.free(0x10, 100)
    script.alloc(0x10, 40)
    script.free(0x10, 40)
    script.free(0x10, 7)
    # the last free has no allocation of its own either: the one at row 1 was freed by row 2
    assert lives(script) == [(0x10, 7, BEFORE, 3), (0x10, 40, 1, 2), (0x10, 100, BEFORE, 0)]


def test_a_lost_free_leaves_both_blocks_alive():
    script = Script()
    script.alloc(0x10, 64)
    script.alloc(0x10, 32)
    script.free(0x10, 32)
    # nothing says when the first one died, so it is not made up: the ledger then disagrees with the allocator
    assert lives(script) == [(0x10, 32, 1, 2), (0x10, 64, 0, 3)]


def test_the_same_address_on_two_devices_is_two_places():
    script = Script(devices=2)
    script.alloc(0x10, 64, device=0)
    script.alloc(0x10, 32, device=1)
    script.free(0x10, 64, device=0)
    script.free(0x10, 32, device=1)
    blocks = pair_events(script.recording())
    by_device = {int(d): (int(s), int(b), int(e)) for d, s, b, e in zip(*_columns(blocks), strict=True)}
    assert by_device == {0: (64, 0, 2), 1: (32, 1, 3)}


def _columns(blocks):
    return blocks.device, blocks.size, blocks.birth, blocks.death


def test_every_event_knows_its_block():
    script = Script()
    script.seed(0x30, 9)
    script.alloc(0x10, 64)
    script.alloc(0x20, 32)
    script.free(0x10, 64)
    script.free(0x30, 9)
    script.free(0x20, 32)
    blocks = pair_events(script.recording())
    assert blocks.size[blocks.of_event].tolist() == [64, 32, 64, 9, 32]
    assert blocks.address[blocks.of_event].tolist() == [0x10, 0x20, 0x10, 0x30, 0x20]


def test_requested_bytes_stand_beside_the_blocks_and_fall_back_to_them():
    script = Script()
    script.alloc(0x10, 512, requested=400)
    script.free(0x10, 512, requested=400)
    script.alloc(0x20, 512, requested=-1)  # the source does not tell
    blocks = pair_events(script.recording())
    requested = dict(zip(blocks.address.tolist(), blocks.requested.tolist(), strict=True))
    assert requested == {0x10: 400, 0x20: 512}


def test_the_scopes_of_birth_and_death_are_kept():
    script = Script()
    with script.module("a") as a:
        script.alloc(0x10, 64)
    with script.module("b") as b:
        script.free(0x10, 64)
        script.alloc(0x20, 64)
    blocks = pair_events(script.recording())
    scopes = dict(zip(blocks.address.tolist(), zip(blocks.birth_scope, blocks.death_scope, strict=True), strict=True))
    assert scopes == {0x10: (a, b), 0x20: (b, -1)}


def test_alive_after_counts_births_and_not_deaths_at_the_event_itself():
    script = Script()
    script.seed(0x10, 1)
    script.alloc(0x20, 2)
    script.free(0x20, 2)
    blocks = pair_events(script.recording())
    alive = [int(blocks.size[blocks.alive_after(event)].sum()) for event in (BEFORE, 0, 1)]
    assert alive == [1, 3, 1]


def test_nothing_gives_no_blocks():
    assert len(pair_events(Script().recording())) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 1000)), max_size=60), st.integers(0, 63))
def test_pairing_agrees_with_a_dictionary_of_living_blocks(actions, seeded):
    """Whatever a sound allocator does, births, deaths and sizes are those that a dictionary of living blocks gives."""
    script, living, expected = Script(devices=2), {}, {}
    for place in range(6):
        if seeded >> place & 1:
            script.seed(place * 16 + 16, 77)
            living[place, 0] = (BEFORE, 77)
    for place, device, size in actions:
        address = place * 16 + 16
        if (place, device) in living:
            birth, size = living.pop((place, device))
            row = script.free(address, size, device)
            expected[address, device, birth] = (size, row)
        else:
            living[place, device] = (script.alloc(address, size, device), size)
    count = len(script.recording().events)
    for (place, device), (birth, size) in living.items():
        expected[place * 16 + 16, device, birth] = (size, count)
    blocks = pair_events(script.recording())
    keys = zip(blocks.address.tolist(), blocks.device.tolist(), blocks.birth.tolist(), strict=True)
    values = zip(blocks.size.tolist(), blocks.death.tolist(), strict=True)
    assert dict(zip(keys, values, strict=True)) == expected
    assert np.array_equal(np.sort(np.unique(blocks.of_event)), np.unique(blocks.of_event))
