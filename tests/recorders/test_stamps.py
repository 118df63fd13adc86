"""Stamps: what is written into the profiler's stream is what is read back."""

import pytest

from vramscope.recorders.stamps import StampKind, label, parse


@pytest.mark.parametrize("kind", StampKind)
@pytest.mark.parametrize("argument", ["", "0 forward", "a.b:c d", "17"])
def test_a_stamp_can_be_read_back(kind, argument):
    assert parse(label(kind, argument)) == (kind, argument)


def test_a_number_is_written_as_text():
    assert parse(label(StampKind.MARKS, 12)) == ("marks", "12")
