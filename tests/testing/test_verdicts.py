"""What a test that passes its limits is told."""

from dataclasses import replace

import pytest

from vramscope.ledger.categories import Category
from vramscope.ledger.thresholds import parse_threshold
from vramscope.testing.figures import TestFigures
from vramscope.testing.limits import LeakLimit, MemoryLimit
from vramscope.testing.verdicts import doubt_memory, judge_growth, judge_leaks, judge_memory

USED = TestFigures(
    device="cpu",
    peak_bytes=100,
    leaked_bytes=40,
    by_category={"parameters": 40, "optimizer_state": 60, "inputs": 0},
    category_peaks={"parameters": 40, "optimizer_state": 60, "inputs": 0},
    modules={"": 30, "a": 70},
    module_peaks={"": 100, "a": 70},
    leaked_by_category={"optimizer_state": 40},
    category_modules={"parameters": {"": 30, "a": 10}, "optimizer_state": {"a": 60}},
)
"""What a test has used."""


def figures(peak: int, **modules: int) -> TestFigures:
    """A test whose peak is that of what ran in no module, and of all modules."""
    return TestFigures("cpu", peak, 0, {}, {}, {}, {"": peak, **modules}, {})


def test_a_limit_is_what_may_just_be_held() -> None:
    assert judge_memory(MemoryLimit(100), USED) is None
    assert (judge_memory(MemoryLimit(99), USED) or "").splitlines() == [
        "the test held 100 B in all on cpu, 1 B more than limit_vram allows: 99 B",
        "  at the peak: optimizer_state 60 B, parameters 40 B",
        "  by module: a 70 B, (no submodule) 30 B",
    ]


def test_a_category_has_its_own_fullest_moment() -> None:
    assert judge_memory(MemoryLimit(60, Category.OPTIMIZER_STATE), USED) is None
    assert (judge_memory(MemoryLimit(59, Category.OPTIMIZER_STATE), USED) or "").splitlines() == [
        "the test held 60 B of optimizer state on cpu, 1 B more than limit_vram allows: 59 B",
        "  by module at that moment: a 60 B",
    ]


def test_a_limit_on_leaks_is_what_may_just_be_left() -> None:
    assert judge_leaks(LeakLimit(40), USED) is None
    assert (judge_leaks(LeakLimit(39), USED) or "").splitlines() == [
        "40 B that the test allocated on cpu are still there after it, 1 B more than limit_vram_leaks allows: 39 B",
        "  left: optimizer_state 40 B",
    ]


def test_the_largest_parts_are_named_and_the_others_summed() -> None:
    many = replace(USED, modules={f"layer{size}": size for size in range(1, 9)})
    *_, by_module = (judge_memory(MemoryLimit(0), many) or "").splitlines()
    assert by_module == (
        "  by module: layer8 8 B, layer7 7 B, layer6 6 B, layer5 5 B, layer4 4 B, layer3 3 B, 2 others 3 B"
    )


@pytest.mark.parametrize(
    ("threshold", "before", "words"),
    [
        ("10%", 90, "peak grew from 90 B to 100 B since the baseline, more than 99 B (--vramscope-fail-over 10%)"),
        ("10%", 91, None),  # 91 + 9
        ("optimizer_state:5 B", 54, "optimizer state grew from 54 B to 60 B since the baseline, more than 59 B"),
        ("optimizer_state:5 B", 55, None),
        ("module=a:0", 69, "module 'a' grew from 69 B to 70 B since the baseline, more than 69 B"),
        ("module=a:0", 70, None),
        ("module=b:0", 0, None),  # which neither run has
    ],
)
def test_a_figure_may_grow_by_what_its_threshold_says(threshold: str, before: int, words: str | None) -> None:
    earlier = replace(USED, peak_bytes=before, category_peaks={"optimizer_state": before}, module_peaks={"a": before})
    found = judge_growth(parse_threshold(threshold), earlier, USED)
    assert (found is None) == (words is None)
    assert (found or "").startswith(words or "")


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
