"""The pictures: real PNGs of the promised size, drawn from any ledger, without a trace in matplotlib's global state."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from helpers import MarkKind, Script
from views import samples
from vramscope.errors import OutputError
from vramscope.ledger.comparison import Comparison, RunWindow, compare_recordings
from vramscope.ledger.ledger import Ledger
from vramscope.views.pictures.panel import Span, panel_of
from vramscope.views.pictures.peaks import draw_peaks, spread
from vramscope.views.pictures.timeline import _step_with_length, draw_timeline
from vramscope.views.png import write_peaks, write_timeline
from vramscope.views.text import Scale

from .pages import comparison, composition, summary

WRITERS = (write_timeline, write_peaks)
Writer = Callable[[Comparison, Path], None]
EVIL = "\x1b[31m$\\frac{a$ \u202e\ud800 数 {x}\n%s"
WIDTH, HEIGHT = 1800, 1000  # twice the 900 pixels at which a README shows it


def passes(steps: int = 3, training: bool = True, scale: int = 1024) -> Script:
    """A model of 100 units; each step 30 units of activations and, in training, 100 of gradients."""
    script = Script()
    with script.phase("build"):
        script.alloc(0xA0, 100 * scale)
    script.mark(MarkKind.PARAMETER, "weight", 0xA0)
    for index in range(steps):
        with script.step(index):
            with script.phase("forward"), script.module("a"), script.operator("aten::mm", index):
                script.alloc(0x1000, 30 * scale)
            if training:
                with script.phase("backward"), script.node("MmBackward0", index), script.operator("aten::mm"):
                    script.alloc(0x2000, 100 * scale)
                script.mark(MarkKind.GRADIENT, "weight", 0x2000, owner="weight")
                script.free(0x2000, 100 * scale)
            script.free(0x1000, 30 * scale)
    return script


def both(name: str = "net") -> Comparison:
    found = compare_recordings({"inference": passes(training=False).recording(), "training": passes().recording()})
    return replace(found, workload={"name": name, "optimizer": "AdamW", "batch": 8})


@pytest.mark.parametrize("write", WRITERS)
def test_a_picture_of_the_promised_size(write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    write(both(), path)
    pixels = imread(path)
    assert pixels.shape[:2] == (HEIGHT, WIDTH)
    assert float(pixels[..., :3].std()) > 0.05  # something was drawn
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("write", WRITERS)
def test_more_passes_make_a_wider_picture(write: Writer, tmp_path: Path) -> None:
    recordings = {name: passes().recording() for name in ("inference", "training", "other")}
    write(compare_recordings(recordings), tmp_path / "picture.png")
    assert imread(tmp_path / "picture.png").shape[:2] == (HEIGHT, WIDTH * 3 // 2)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("script", [Script(), passes(steps=0), passes(steps=1), passes(steps=40), passes(scale=1)])
def test_any_ledger_can_be_drawn(script: Script, write: Writer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(compare_recordings({"training": script.recording()}), tmp_path / "picture.png")
    assert imread(tmp_path / "picture.png").shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", [EVIL, "long" * 100, ""])
def test_names_are_text_whatever_they_hold(name: str, write: Writer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing from the font would be a warning
        write(both(name), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("place", ["missing/picture.png", "file/picture.png", "folder"])
def test_an_unwritable_place_is_refused_in_one_line(place: str, write: Writer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write") as caught:
        write(both(), tmp_path / place)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("write", WRITERS)
def test_an_older_picture_is_replaced(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_text("old")
    write(both(), tmp_path / "picture.png")
    assert imread(tmp_path / "picture.png").shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize("write", WRITERS)
def test_a_users_own_settings_neither_matter_nor_change(write: Writer, tmp_path: Path) -> None:
    write(both(), tmp_path / "plain.png")
    with matplotlib.rc_context(
        {"figure.facecolor": "black", "font.size": 30, "text.usetex": True, "lines.linewidth": 9}
    ):
        before = dict(matplotlib.rcParams)
        write(both(), tmp_path / "styled.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "styled.png").read_bytes()


def test_pyplot_stays_out(tmp_path: Path) -> None:
    code = "import sys, vramscope.views.png; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_the_panel_shows_the_steady_steps_and_their_peak() -> None:
    script = passes()
    panel = panel_of("training", script.ledger())
    assert [step.name for step in panel.steps] == ["step 1", "step 2"]
    assert [(step.begin, step.end) for step in panel.steps] == [(0, 1), (1, 2)]
    assert panel.peak_bytes == panel.composition.sum(axis=1).max() == 230 * 1024
    assert [phase.name for phase in panel.phases] == ["forward", "backward"] * 2
    assert panel.positions[0] == 0
    assert panel.positions[-1] == panel.width == 2
    assert np.all(np.diff(panel.positions) >= 0)


def test_a_panel_begins_with_what_was_there_before() -> None:
    script = passes()
    panel = panel_of("training", script.ledger())
    assert panel.composition[0].sum() == 100 * 1024  # the parameters


def test_a_long_recording_is_drawn_with_bounded_points_and_its_true_peak() -> None:
    script = Script()
    with script.step(0):
        for index in range(20_000):
            script.alloc(index, 10)
            if index == 12_345:
                script.alloc(-1, 10**9)
                script.free(-1, 10**9)
    panel = panel_of("training", script.ledger())
    assert len(panel.positions) <= 4 * 1500 + 2
    assert panel.composition.sum(axis=1).max() == panel.peak_bytes == 12_346 * 10 + 10**9


def test_a_gpus_reserved_memory_is_a_line_over_the_bands() -> None:
    ledger = Ledger(samples.on_gpu(samples.training()))
    panel = panel_of("training", ledger)
    # 2 weights, an activation and 2 gradients: 4 x 1,600 + 480 = 6,880 B at most, in segments of 4,096 B
    # the steady step begins with what the cold one has taken
    assert panel.reserved is not None and set(panel.reserved.tolist()) == {8192}
    assert len(panel.reserved) == len(panel.positions)
    assert (panel.peak_bytes, panel.highest_bytes) == (6880, 8192)
    assert np.all(panel.composition.sum(axis=1) <= panel.reserved)
    assert panel_of("training", Ledger(samples.training())).reserved is None  # a CPU keeps nothing back


def test_the_line_of_reserved_memory_is_drawn_and_named() -> None:
    figure = Figure(layout="constrained")
    draw_timeline(compare_recordings({"training": samples.on_gpu(samples.training())}), figure)
    height = Scale.fitting(8192).value(8192)
    assert any(set(np.asarray(line.get_ydata()).tolist()) == {height} for line in figure.axes[0].lines)
    assert "reserved by the allocator" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_long_recordings_reserved_peak_is_drawn_too() -> None:
    script = Script()
    for index in range(20_000):
        script.alloc(index, 10)
    plain = samples.on_gpu(script.recording(), segment=1)
    reserved = plain.events.reserved.copy()
    reserved[12_345] = 10**9
    panel = panel_of("training", Ledger(replace(plain, events=replace(plain.events, reserved=reserved))))
    assert panel.reserved is not None and panel.reserved.max() == 10**9


def test_without_steps_the_axis_is_time() -> None:
    script = Script()
    for index in range(5):
        script.alloc(index, 10)
    panel = panel_of("training", script.ledger())
    assert panel.steps == ()
    assert panel.width == panel.length_ns == 4  # one tick between two events


@pytest.mark.parametrize(
    ("steps", "timeline", "peaks"),
    [(0, "over the whole recording", "of the whole recording"), (3, "over the steady steps", "of a steady step")],
)
def test_titles_say_what_is_shown(steps: int, timeline: str, peaks: str) -> None:
    shown = compare_recordings({"training": passes(steps).recording()})
    for draw, words in ((draw_timeline, timeline), (draw_peaks, peaks)):
        figure = Figure(layout="constrained")
        draw(shown, figure)
        assert any(text.get_text().endswith(words) for text in figure.texts)


def test_a_window_of_a_run_is_named_below_the_title() -> None:
    shown = replace(samples.comparison(), window=RunWindow(1, 24, 26))
    figure = Figure(layout="constrained")
    draw_timeline(shown, figure)
    assert any("steps 24 to 26 (window 1)" in text.get_text() for text in figure.texts)


def test_parts_too_small_to_see_are_told_below_the_bar() -> None:
    figure = Figure(layout="constrained")
    draw_peaks(comparison(None, summary(composition(parameters=10**6, inputs=3, workspace=9000))), figure)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "too small to see: inputs 3 B" in words  # 9,000 of 1,009,003 B is nearly 1 %, which can be seen
    assert any(text.startswith("workspace") for text in words)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([5.0, 20.0], [5.0, 20.0]),
        ([10.0, 10.0], [9.0, 11.0]),  # two apart, around the middle
        ([0.0, 0.0], [1.0, 3.0]),  # nothing lies below 1
        ([10.0, 10.0, 12.5], [9.0 - 1 / 6, 11.0 - 1 / 6, 13.0 - 1 / 6]),  # the pair pushes the third: mean 10.83
    ],
)
def test_labels_keep_their_distance(wanted: list[float], expected: list[float]) -> None:
    assert spread(wanted, 2.0, 1.0) == pytest.approx(expected)


@pytest.mark.parametrize(("predicted", "timed"), [(True, False), (False, True)])
def test_steps_of_a_prediction_have_no_length(predicted: bool, timed: bool) -> None:
    figure = Figure()
    draw_timeline(replace(both(), predicted=predicted), figure)
    labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert [label.partition("\n")[0] for label in labels] == ["step 1", "step 2"] * 2
    assert all(("s" in label.partition("\n")[2]) is timed for label in labels)


@pytest.mark.parametrize(
    ("length_ns", "expected"),
    [(31_400, "31.4 µs"), (602_340_000, "602 ms"), (999_700_000, "1,000 ms"), (1_790_000_000, "1,790 ms")],
)
def test_a_steps_length_is_written_out(length_ns: int, expected: str) -> None:
    assert _step_with_length(Span("step 1", 0, 1, length_ns)) == f"step 1\n{expected}"
