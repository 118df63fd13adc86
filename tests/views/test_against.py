"""A prediction beside a measurement, in words."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from vramscope.ledger.against import Against, Figure, Place
from vramscope.ledger.categories import CATEGORIES
from vramscope.views.terminal.against import print_against

GELU = Place("forward", "blocks.1", "aten::gelu")
ALIKE = Against(
    peak=Figure(8, 8),
    reserved=None,
    by_category=dict.fromkeys(CATEGORIES, Figure(1, 1)),
    categories_known=True,
    allocations=(1, 1),
    matching=1.0,
    parting=None,
    peaks_at=(GELU, GELU),
)


def printed(against: Against, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_against("training", against, console)
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "figures"), [(60, 4), (50, 3), (40, 2)])
def test_no_figure_is_cut(width, figures):
    large = Figure(10**9, 10**9 + 1)
    text = printed(replace(ALIKE, peak=large, by_category=dict.fromkeys(CATEGORIES, large)), width)
    assert "…" not in text
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert len(re.findall(r" [KM]?i?B\b|%", total)) == figures


def test_peaks_at_one_moment_are_not_mentioned():
    assert "own peak" not in printed(ALIKE)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Place("backward", "", "aten::mm"), "measured in backward · aten::mm"),
        (Place(None, "", None), "measured outside every phase"),
    ],
)
def test_peaks_at_two_moments_are_named(other, words):
    text = printed(replace(ALIKE, peaks_at=(GELU, other)))
    assert f"each side's own peak: predicted in forward · blocks.1 · aten::gelu, {words}" in text
