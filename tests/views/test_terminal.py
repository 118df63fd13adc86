"""The page a person reads: right sums, harmless names, any width, with or without colour."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vramscope.ledger.summary import Activations, Level, ModuleRow
from vramscope.views.terminal import print_comparison

from . import samples
from .pages import (
    assert_columns_sum,
    comparison,
    composition,
    figures_in,
    full_comparison,
    printed,
    summary,
    table_below,
)

SIZES = st.integers(0, 10**12)
EVIL = "\x1b[31m[bold]\u202e{x}\n$y$\ud800\x07:smile:"
"""Terminal colours, rich markup, a right-to-left override, a line break, a lone surrogate, a bell, an emoji's name."""


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_categories_sum_to_the_total(width: int, verbose: bool) -> None:
    text = printed(full_comparison(), width, verbose=verbose)
    rows, total = table_below(text, "Memory at the peak")
    assert_columns_sum(rows, total, columns=2 if width == 60 and verbose else 3)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_the_modules_sum_to_what_is_kept(width: int, verbose: bool) -> None:
    text = printed(full_comparison(), width, top=3, verbose=verbose)
    rows, total = table_below(text, "Modules")
    assert "others" in rows[-1]
    assert_columns_sum(rows, total, columns=2)  # own and parameters; bytes with children overlap and have no sum


@pytest.mark.parametrize("width", [80, 120])
def test_the_lines_sum_to_the_peak(width: int) -> None:
    text = printed(full_comparison(), width, top=4)
    rows, total = table_below(text, "Source lines at the training peak")
    assert rows[-1].startswith("9 more")  # 13 lines, 4 shown
    assert_columns_sum(rows, total, columns=1)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("title", ["Modules", "Source lines at the training peak"])
def test_forty_columns_keep_names_and_whole_figures(title: str, verbose: bool) -> None:
    rows, total = table_below(printed(full_comparison(), 40, top=3, verbose=verbose), title)
    assert_columns_sum(rows, total, columns=1)  # what is not the tables' own figure has no room
    assert all(re.match(r"\S.*\w", row) for row in rows), rows


def test_passes_whose_figures_do_not_fit_side_by_side_follow_one_another() -> None:
    text = printed(full_comparison(), 40, verbose=True)
    assert "…" not in text
    # 9 and 10 digits, with commas, a space and B: two such columns leave ten for names
    large = comparison(*(summary(composition(parameters=10**9)) for _ in range(2)))
    rows, total = table_below(printed(large, 40, verbose=True), "Memory at the peak")
    assert_columns_sum(rows, total, columns=1)
    assert printed(large, 40, verbose=True).count("\ntotal ") == 2


def test_the_process_is_the_sum_of_its_parts() -> None:
    rows, total = table_below(printed(full_comparison()), "Memory of the process")
    assert_columns_sum(rows, total, columns=1)


def test_verbose_tells_the_process_in_bytes_and_how_it_was_measured() -> None:
    text = printed(full_comparison(), verbose=True)
    assert re.search(r"^before the model +104,857,600 B$", text, re.MULTILINE)  # 100 MiB
    assert "\nhow the peak was measured: VmHWM\n" in text


def test_one_parameter_is_singular() -> None:
    text = printed(comparison(summary(composition(parameters=4)), None, workload={"parameter_count": 1}))
    assert "net · 1 parameter · " in text


def test_a_negative_remainder_is_explained() -> None:
    text = printed(full_comparison())
    assert "-15.0 MiB" in text
    assert "training: the remainder is negative because tensors never touched take no RSS" in text


def test_the_optimizer_state_by_name() -> None:
    rows, total = table_below(printed(full_comparison()), "Optimizer state")
    assert [row.split()[0] for row in rows] == ["exp_avg", "exp_avg_sq", "step"]
    assert_columns_sum(rows, total, columns=1)


@given(st.lists(SIZES, min_size=11, max_size=11), st.lists(SIZES, min_size=11, max_size=11), st.booleans())
def test_whatever_the_sizes_the_columns_sum(inference: list[int], training: list[int], verbose: bool) -> None:
    names = list(composition())
    small, large = (dict(zip(names, sizes, strict=True)) for sizes in (inference, training))
    rows, total = table_below(printed(comparison(summary(small), summary(large)), 120, verbose=verbose), "Memory at")
    assert_columns_sum(rows, total, columns=3)


def test_unattributed_is_shown_even_when_nothing_is() -> None:
    text = printed(comparison(summary(composition(parameters=5)), summary(composition(parameters=7))))
    rows, _ = table_below(text, "Memory at the peak")
    assert [row.split()[0] for row in rows] == ["parameters", "unattributed"]
    assert [figure.bytes for figure in figures_in(rows[1])] == [0, 0, 0]


def test_verbose_shows_every_category() -> None:
    rows, _ = table_below(printed(full_comparison(), verbose=True), "Memory at the peak")
    assert [row.split("  ")[0].replace(" ", "_") for row in rows] == [str(category) for category in composition()]


def test_the_totals_equal_the_allocators_word() -> None:
    text = printed(comparison(summary(composition(parameters=5000)), summary(composition(parameters=70_000))), 120)
    assert "✓ equals the allocator's own total to the byte: inference 5,000 B, training 70,000 B" in text
    assert "WARNING" not in text


@pytest.mark.parametrize("wrong", [{}, {"allocator_bytes": 22_222}])
def test_no_line_parts_a_figure_of_the_totals_from_its_unit(wrong: dict[str, int]) -> None:
    training = summary(composition(parameters=11_809_864), **wrong)
    for width in range(40, 120):
        lines = printed(comparison(summary(composition(parameters=5000)), training), width).splitlines()
        assert not any(re.match(r"B\b", line) for line in lines)


@pytest.mark.parametrize("wrong", [{"disagreement": 12_345}, {"allocator_bytes": 71_000}])
def test_a_disagreement_is_told_first_and_loudly(wrong: dict[str, int]) -> None:
    training = summary(composition(parameters=70_000), **wrong)
    text = printed(comparison(summary(composition(parameters=5000)), training), 120)
    assert text.index("WARNING: do not trust the figures of training on cpu") < text.index("Memory at the peak")
    assert "✓ equals the allocator's own total to the byte: inference 5,000 B\n" in text
    assert "DIFFERS from the allocator's own total: training" in text


def test_the_ratio() -> None:
    text = printed(comparison(summary(composition(parameters=1000)), summary(composition(gradients=7100))))
    assert next(line for line in text.splitlines() if line.startswith("times inference")).split() == [
        "times",
        "inference",
        "1.0x",
        "7.1x",
    ]


def test_the_moment_of_the_peak() -> None:
    assert "training    backward · layers.1 (Linear) · aten::mm\n" in printed(full_comparison())


def test_the_moment_of_the_peak_cuts_no_name() -> None:
    # inference is at its peak in the first module, whose name of 101 columns needs two lines of 80
    name = ".".join(["first", *["block"] * 16])
    text = printed(samples.comparison(names=(name, "second")), 80)
    moment = text.split("Moment of the peak")[1].split("\n\n")[0]
    assert f"forward·{name}(Linear)·aten::linear" in re.sub(r"\s+", "", moment)


def test_rounding_slack_is_shown_where_there_is_any() -> None:
    rounded = summary(composition(parameters=2048), requested=composition(parameters=1600))
    line = next(line for line in printed(comparison(rounded, None)).splitlines() if line.startswith("of it rounding"))
    assert [figure.bytes for figure in figures_in(line)] == [448]
    assert "rounding" not in printed(full_comparison())


def test_the_cold_step_stands_beside_the_steady_ones() -> None:
    steady = composition(parameters=3000)
    text = printed(comparison(None, summary(steady, cold=Level(1234, composition(parameters=1234)))))
    lines = {line[:12].strip(): figures_in(line) for line in text.splitlines() if line.startswith(("steady", "cold"))}
    assert {name: figures[0].bytes for name, figures in lines.items()} == {"steady steps": 3000, "cold step": 1234}


def test_a_recording_without_steps_has_no_cold_step() -> None:
    text = printed(comparison(None, summary(composition(parameters=3000), steady_steps=0)))
    assert "whole recording" in text
    assert "cold" not in text


def test_modules_that_differ_only_in_numbers_share_a_line() -> None:
    rows, _ = table_below(printed(full_comparison()), "Modules")
    # own: 2 + 3 + 4 + 5 + 6 + 7 MiB and 15 bytes; parameters: 1 + 2 + 3 + 4 + 5 + 6 MiB
    assert rows[0].split() == ["layers.*", "x6", "Linear", "27.0", "MiB", "90.0%", "27.0", "MiB", "21.0", "MiB"]
    assert any(row.startswith("(the model itself)") for row in rows)


def test_modules_with_children_include_them() -> None:
    modules = (
        ModuleRow("", "Net", 0, 1000, 0, 0),
        ModuleRow("a", "Block", 0, 200, 0, 0),
        ModuleRow("a.b", "Linear", 0, 30, 0, 0),
        ModuleRow("ab", "Linear", 0, 4, 0, 0),  # begins like a, but is none of its children
    )
    text = printed(comparison(None, summary(composition(activations=1234), modules=modules)))
    rows, _ = table_below(text, "Modules")
    shown = {row.split("  ")[0]: [figure.bytes for figure in figures_in(row)][:2] for row in rows}
    assert shown == {"(the model itself)": [1000, 1234], "a": [200, 230], "a.b": [30, 30], "ab": [4, 4]}


def test_a_pass_that_keeps_nothing_shows_what_comes_and_goes() -> None:
    modules = (ModuleRow("a", "Linear", 7, 0, 40, 0), ModuleRow("b", "Linear", 0, 0, 900, 0))
    text = printed(comparison(summary(composition(activations=940), modules=modules), None))
    lines = text[text.index("Modules by transient activations") :].splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["b", "a"]


def test_repeated_names_are_told_apart_by_type_where_there_is_no_column_for_it() -> None:
    modules = tuple(ModuleRow(f"mlp.{n}", ("Linear", "GELU")[n % 2], 0, 100 + n, 0, 0) for n in range(4))
    rows, _ = table_below(printed(comparison(None, summary(composition(), modules=modules)), 60), "Modules")
    assert [row.split()[:3] for row in rows] == [["mlp.*", "GELU", "x2"], ["mlp.*", "Linear", "x2"]]


def test_activations_by_who_holds_them() -> None:
    kept = summary(composition(activations=100), activations=Activations(100, 60, 40, 7, 5, 0, 0))
    text = printed(comparison(None, kept), 50)
    rows, total = table_below(text, "Activations")
    assert [figures_in(row)[0].bytes for row in rows] == [60, 40]
    assert figures_in(total)[0].bytes == 100
    assert "recomputed, at most" in text


def test_source_lines_are_left_out_where_none_is_known() -> None:
    full = full_comparison()
    training = replace(full.passes["training"], sites=full.passes["training"].sites[-1:])
    assert "Source lines" not in printed(replace(full, passes={"training": training}))


def test_several_devices_are_never_added_up() -> None:
    one = summary(composition(parameters=5000))
    device = one.devices[0]
    more = (replace(device, device="cuda:0", name="A GPU"), device)
    text = printed(comparison(None, replace(one, devices=more)))
    section = text[text.index("Devices  each at its own peak, not to be added up") :].splitlines()
    assert [line.split() for line in section[3:5]] == [["cuda:0", "5,000", "B"], ["cpu", "5,000", "B"]]


def test_notes_are_printed_once_and_say_whose_they_are() -> None:
    one = summary(composition(parameters=5), notes=("of both", "of one"))
    other = summary(composition(parameters=5), notes=("of both",))
    text = printed(comparison(one, other))
    assert text[text.index("Notes") :].split("\n")[1:3] == ["of both", "inference: of one"]


def test_notes_of_the_host_are_printed() -> None:
    assert "training: a remark" in printed(full_comparison())


def test_a_prediction_says_so_on_top() -> None:
    text = printed(replace(full_comparison(), predicted=True))
    assert "PREDICTED" in text.splitlines()[1]
    assert "the simulated allocator's total" in text


def test_an_incomplete_recording_says_so() -> None:
    assert "recording is incomplete" in printed(comparison(None, summary(composition(), complete=False)))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_is_wider_than_the_console_or_ends_in_spaces(width: int) -> None:
    for verbose in (False, True):
        lines = printed(full_comparison(), width, verbose=verbose).split("\n")
        assert max(map(len, lines)) <= width
        assert [line for line in lines if line != line.rstrip()] == []
        assert "\n\n\n" not in "\n".join(lines[:-1])


def test_no_colour_in_a_pipe() -> None:
    assert "\x1b" not in printed(full_comparison())


def test_no_colour_where_it_is_not_wanted() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True, color_system="truecolor")
    print_comparison(full_comparison(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m" in text  # bold is no colour
    codes = {int(code) for sequence in re.findall(r"\x1b\[([\d;]*)m", text) for code in sequence.split(";") if code}
    assert not codes & {*range(30, 50), *range(90, 108)}


def test_names_are_text_whatever_they_hold() -> None:
    modules = (ModuleRow(EVIL, EVIL, 5, 100, 3, 0),)
    shown = summary(
        composition(activations=500),
        phase=EVIL,
        module=EVIL,
        operator=EVIL,
        modules=modules,
        notes=(EVIL,),
        optimizer_state={EVIL: 4},
    )
    sites = (replace(full_comparison().passes["training"].sites[0], file=EVIL, function=EVIL),)
    text = printed(comparison(None, replace(shown, sites=sites), workload={"name": EVIL, "optimizer": EVIL}), 200)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode("utf-8")
    harmless = r"\x1b[31m[bold]\u202e{x}\n$y$\ud800\x07:smile:"
    # header twice, module and its type twice, phase, operator, state, site, its function, note
    assert text.count(harmless) >= 10


def test_a_note_is_shown_whole() -> None:
    words = [f"word{number}" for number in range(200)]  # far longer than a name may be
    text = printed(comparison(None, summary(composition(), notes=(" ".join(words),))), 100)
    assert [word for word in words if word not in text.split()] == []


def test_a_console_without_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    evil = replace(full_comparison(), workload={"name": "ünïcode", "optimizer": "Ω"})
    print_comparison(evil, Console(file=stream, width=120))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert r"\xfcn\xefcode" in text
    assert "= equals the allocator's own total" in text
    assert "----" in text


def test_a_sentence_over_several_lines_without_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_comparison(full_comparison(), Console(file=stream, width=60))
    stream.flush()
    assert "\\n" not in stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


def test_a_real_pipe_with_no_colour_wanted() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from rich.console import Console;"
        "from views.pages import full_comparison; from vramscope.views.terminal import print_comparison;"
        "print_comparison(full_comparison(), Console())"
    )
    tests = __file__.rpartition("views")[0]
    environment = {"NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    result = subprocess.run([sys.executable, "-c", code, tests], capture_output=True, env=environment, check=True)
    assert result.stderr == b""
    assert b"\x1b" not in result.stdout
    assert max(map(len, result.stdout.decode().split("\n"))) <= 80


def test_sections_follow_one_another_with_one_empty_line() -> None:
    lines = printed(full_comparison(), 80).split("\n")
    headings = ("Memory at", "Moment of", "Peak of", "Modules", "Source", "Memory of", "Notes")
    assert all(not before for before, line in pairwise(lines) if line.startswith(headings))


def test_the_smallest_comparison() -> None:
    rows, total = table_below(printed(comparison(summary(composition()), summary(composition()))), "Memory at the peak")
    assert [figure.bytes for line in (*rows, total) for figure in figures_in(line)] == [0] * 6
