"""What experiments found, as figure, page, JSON and summary; from a finding written by hand."""

import io
import itertools
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from vramscope.findings import Claim, Finding, Origin, Panel, PanelKind, Picture, Series, Timing
from vramscope.views.experiments.document import experiments_document
from vramscope.views.experiments.figure import figure_of, figure_settings, write_figure
from vramscope.views.experiments.page import print_page
from vramscope.views.experiments.summary import summary_markdown

LINES = Panel(
    "Lines",
    "depth (layers)",
    "error",
    (Series("a", (1.0, 0.0, 1e-3), (2.0, 4.0, 64.0)), Series("b", (1.0, 2.0), (2.0, 4.0), (0.5, 1.0), (1.5, 3.0))),
    levels={"limit": 0.5},
    log_x=True,
    log_y=True,
)
BARS = Panel("Bars", "model", "size (KiB)", (Series("c", (1.0, 2.0)),), PanelKind.BARS, ("x", "y"), {"one": 1.0})
STACK = Panel(
    "Stack",
    "model",
    "size (KiB)",
    (Series("parameters", (1.0, 2.0)), Series("gradients", (0.0, 0.0))),
    PanelKind.STACK,
    ("x", "y"),
)
HOLDS = Claim("it is so", {"first": True}, "1 of 1", {"figure": 1})
PARTLY = Claim("it is | always so", {"first": True, "second": False}, "1 of 2", {}, Origin.QUESTION)
PICTURE = Picture("Mostly", (LINES, BARS, STACK), "Read it so.")
TIMING = Timing("multiples of a second", {"ratio": 2.5})
FINDING = Finding("an-experiment", "Is it so?", "Mostly.", (HOLDS, PARTLY), {}, PICTURE, (TIMING,))
SETTINGS = {"quick": False, "seed": 7, "device": "cpu", "device_name": "a processor"}
ENVIRONMENT = {"threads": 2, "torch": "2.13.0", "python": "3.11.0"}


def document() -> dict[str, Any]:
    return experiments_document([FINDING], SETTINGS, ENVIRONMENT)


def page(width: int = 100) -> str:
    printed = io.StringIO()
    print_page(FINDING, Console(file=printed, width=width, no_color=True))
    return printed.getvalue()


def test_lines_that_wrap_keep_their_margin_and_end_in_no_spaces() -> None:
    lines = page(width=21).splitlines()
    assert "  partly asked: it is" in lines
    assert lines[lines.index("  partly asked: it is") + 1] == " " * 9 + "| always so"
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("panel", [LINES, BARS, STACK], ids=lambda panel: panel.kind.value)
def test_every_kind_of_panel_is_drawn(panel: Panel, tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    write_figure(replace(FINDING, picture=Picture("Mostly", (panel,))), path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_figure_has_the_width_of_a_readme(tmp_path: Path) -> None:
    write_figure(FINDING, tmp_path / "figure.png")
    width, _ = struct.unpack(">II", (tmp_path / "figure.png").read_bytes()[16:24])
    assert width == 1200


def test_the_document_has_the_fixed_keys() -> None:
    experiment = document()["experiments"][0]
    assert {"name", "claims", "passes"} <= set(experiment)


def test_the_document_gives_each_claim_its_verdict() -> None:
    assert [claim["verdict"] for claim in document()["experiments"][0]["claims"]] == ["holds", "partly"]


def test_the_page_says_which_part_is_not_so() -> None:
    assert "not: second" in page()


def test_the_page_shows_times_apart_from_the_claims() -> None:
    assert "timed, not judged: multiples of a second: ratio 2.5" in page()


def test_the_summary_shows_times_apart_from_the_claims() -> None:
    assert "multiples of a second: ratio 2.5." in summary_markdown({"cpu": document()})


def test_the_summary_says_how_to_read_the_picture() -> None:
    assert "Read it so." in summary_markdown({"cpu": document()})


def test_a_long_headline_goes_on_below() -> None:
    # 120 letters do not fit beside each other: a second line makes the figure higher
    assert height_of("word " * 24) > height_of("word")


def height_of(headline: str) -> float:
    return float(drawn(replace(FINDING, picture=replace(PICTURE, headline=headline))).get_figheight())


def drawn(finding: Finding) -> Figure:
    with figure_settings():
        figure = figure_of(finding.picture)
        FigureCanvasAgg(figure).draw()
    return figure


def test_nothing_lies_outside_the_figure() -> None:
    figure = drawn(FINDING)
    inner, outer = figure.get_tightbbox(), figure.bbox_inches
    assert (inner.x0 >= 0, inner.y0 >= 0, inner.x1 <= outer.x1, inner.y1 <= outer.y1) == (True,) * 4


@pytest.mark.parametrize("name", ["x", "transformer training", "one long name under a bar", "augmentation"])
@pytest.mark.parametrize("count", [2, 4, 6, 7])
def test_names_under_bars_do_not_overlap(name: str, count: int) -> None:
    panel = Panel("Bars", "model", "size", (Series("c", (1.0,) * count),), PanelKind.BARS, (name,) * count)
    (axes,) = drawn(replace(FINDING, picture=replace(PICTURE, panels=(panel,)))).subfigs[0].axes
    labels = axes.get_xticklabels()
    # slanted names lie in parallel: their boxes may overlap, their letters do not
    upright = [label.get_window_extent() for label in labels if not label.get_rotation()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(upright))


def test_sizes_over_bars_are_written_out() -> None:
    sizes, names = (0.25, 99.96, 999.7, 1790.0), ("a", "b", "c", "d")
    panel = Panel("Bars", "model", "size (KiB)", (Series("c", sizes),), PanelKind.BARS, names)
    (axes,) = drawn(replace(FINDING, picture=Picture("Bars", (panel,)))).axes
    assert [text.get_text() for text in axes.texts] == ["0.25", "100", "1,000", "1,790"]


def test_panels_of_a_row_do_not_overlap() -> None:
    *_, left, right = (axes.get_tightbbox() for part in drawn(FINDING).subfigs for axes in part.axes)
    assert left.x1 <= right.x0


def test_the_summary_counts_the_verdicts() -> None:
    assert "| [an-experiment](#an-experiment) | 1 | 1 | 0 |" in summary_markdown({"cpu": document()})


def test_the_summary_shows_the_picture_of_its_folder() -> None:
    assert "![Mostly](cpu/an-experiment.png)" in summary_markdown({"cpu": document()})


def test_the_summary_says_how_it_was_made() -> None:
    assert "`vramscope experiments --seed 7 --device cpu`" in summary_markdown({"cpu": document()})


def test_a_bar_in_a_claim_does_not_break_the_table() -> None:
    assert r"it is \| always so" in summary_markdown({"cpu": document()})


@pytest.mark.parametrize(("heights", "side"), [((1.0, 9.0), "left"), ((9.0, 1.0), "right")])
def test_a_level_is_named_where_the_lines_are_far_from_it(heights: tuple[float, ...], side: str) -> None:
    panel = Panel("Lines", "batch", "memory", (Series("a", heights, (1.0, 2.0)),), levels={"limit": 10.0})
    (axes,) = figure_of(Picture("Title", (panel,))).axes
    (words,) = [text for text in axes.texts if text.get_text() == "limit"]
    assert words.get_horizontalalignment() == side
