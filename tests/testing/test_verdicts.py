"""What a test that passes its limits is told."""

import pytest

from vramscope.ledger.thresholds import parse_threshold
from vramscope.testing.figures import TestFigures
from vramscope.testing.verdicts import judge_growth


def figures(peak: int, **modules: int) -> TestFigures:
    """A test whose peak is that of what ran in no module, and of all modules."""
    return TestFigures("cpu", peak, 0, {}, {}, {}, {"": peak, **modules}, {})


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (figures(100), figures(300), "(no submodule): +200 B (100 B to 300 B)"),
        (figures(100, a=50, b=50), figures(300, a=150, b=150), "all together: +200 B (100 B to 300 B)"),
        (figures(100, a=50), figures(300, a=250), "module 'a': +200 B (50 B to 250 B)"),
    ],
)
def test_what_grew_is_named_as_what_it_is(before: TestFigures, after: TestFigures, words: str) -> None:
    found = judge_growth(parse_threshold("0"), before, after) or ""
    assert found.splitlines()[1] == f"  {words}"
