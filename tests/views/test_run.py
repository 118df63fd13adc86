"""A script's run on a terminal, below the tables that all passes have."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from run.synthetic import step_of_run
from vramscope.ledger.run import CountedSteps, RunSummary, summarize_run
from vramscope.recording.parts import Part
from vramscope.views.terminal.run import print_run

COUNTED = CountedSteps("training", 60, 4, 69, 1_000_000_000, 2_000_000_000, 3_000_000_000)


def summary(windows: int) -> RunSummary:
    """Three steps in each window, of which each leaves a block behind."""
    parts = [
        Part(step, window, step_of_run(3 * window + step, 500, 1 << 20))
        for window in range(windows)
        for step in range(3)
    ]
    return replace(summarize_run(parts), counted=(COUNTED,))


def printed(run: RunSummary, width: int = 80, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_run(run, console, **options)
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text


def test_several_windows_say_what_their_peaks_leave_out() -> None:
    words = "a window's peaks leave out what was left behind before it"
    assert words in printed(summary(2))
    assert words not in printed(summary(1))


def test_sections_follow_one_another_with_one_empty_line() -> None:
    text = printed(summary(2))
    assert "\n\nRecorded steps  2 windows\n" in text
    assert "\n\n\n" not in text
    assert text.endswith("\n\n")


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(("width", "figures"), [(40, 1), (60, 3)])
def test_counted_steps_keep_whole_figures(width: int, figures: int, verbose: bool) -> None:
    lines = printed(summary(1), width, verbose=verbose).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("Only counted"))
    assert max(map(len, lines)) <= width
    assert "…" not in "\n".join(lines)
    shown = " ".join(lines[start:])
    highest = "3,000,000,000 B" if verbose else "2,929,687.5 KiB"  # 3e9 / 1024
    assert highest in shown
    assert "60 training," in shown
