"""What a test that passes its limits is told."""

import pytest

from vramscope.ledger.categories import Category
from vramscope.ledger.thresholds import parse_threshold
from vramscope.testing.figures import TestFigures
from vramscope.testing.limits import MemoryLimit
from vramscope.testing.verdicts import doubt_memory, judge_growth


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


@pytest.mark.parametrize(
    ("size_bytes", "category", "is_doubtful"),
    [
        (99, Category.GRADIENTS, False),  # it fails
        (100, Category.GRADIENTS, True),
        (149, Category.GRADIENTS, True),
        (150, Category.GRADIENTS, False),
        (50, Category.UNATTRIBUTED, False),
        (149, None, False),  # everything counts for it
    ],
)
def test_a_limit_is_doubtful_where_what_is_unattributed_would_pass_it(
    size_bytes: int, category: Category | None, is_doubtful: bool
) -> None:
    peaks, possible = {"gradients": 100, "unattributed": 50}, {"gradients": 150, "unattributed": 50}
    for known in (0, 10):  # bytes of models that are known: then there is no doubt
        found = TestFigures("cpu", 150, 0, {}, {**peaks, "parameters": known}, {}, {}, {}, possible_peaks=possible)
        assert bool(doubt_memory(MemoryLimit(size_bytes, category), found)) == (is_doubtful and not known)
