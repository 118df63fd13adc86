"""A diff on a terminal, as Markdown and as JSON."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from views import samples
from views.goldens import assert_golden
from vramscope.ledger.diff import Change, Diff, Kind, Verdict, diff_comparisons
from vramscope.ledger.thresholds import parse_threshold
from vramscope.views.diff_json import diff_document
from vramscope.views.markdown import diff_markdown
from vramscope.views.terminal.diff import print_diff
from vramscope.views.verdicts import verdict_words

THRESHOLDS = ("5%", "activations:100 B", "parameters:0 B")


def sample(after: int = 2 * samples.ACTIVATION) -> Diff:
    thresholds = [parse_threshold(text) for text in THRESHOLDS]
    return diff_comparisons(samples.comparison(), samples.comparison(after), thresholds)


def printed(diff: Diff, width: int = 120, **how: object) -> str:
    stream = io.StringIO()
    print_diff(diff, Console(file=stream, width=width, **how))  # type: ignore[arg-type]
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def test_golden_terminal() -> None:
    assert_golden("diff.txt", printed(sample()))


def test_golden_markdown() -> None:
    assert_golden("diff.md", diff_markdown(sample()))


def test_the_printed_columns_sum_to_the_printed_totals() -> None:
    found = []
    for part in printed(sample()).split("total at the peak")[:2]:
        figures = [re.findall(r"([\d,]+) B", line) for line in part[part.rindex("before") :].splitlines()]
        # sizes below ten KiB are printed in bytes, so the sums are exact
        found.append([sum(int(row[side].replace(",", "")) for row in figures if len(row) > 1) for side in (0, 1)])
    assert found == [[3_680, 4_160], [6_880, 7_360]]


def test_the_json_sums_to_the_peak_and_lists_every_regression() -> None:
    document = json.loads(json.dumps(diff_document(sample())))
    for name in ("inference", "training"):
        mine = [change for change in document["changes"] if change["pass"] == name]
        (peak,) = (change for change in mine if change["kind"] == "peak")
        categories = [change for change in mine if change["kind"] == "category"]
        for side in ("before_bytes", "after_bytes"):
            assert sum(change[side] for change in categories) == peak[side]
    failed = {(found["pass"], found["name"]) for found in document["regressions"]}
    assert failed == {(p, name) for p in ("inference", "training") for name in ("peak", "activations")}
    assert {found["module"] for found in document["regressions"]} <= {"first", "second"}


@pytest.mark.parametrize(("growth", "words"), [(51, "most of it"), (50, "the largest part of it")])
def test_only_more_than_half_is_called_most(growth: int, words: str) -> None:
    verdict = Verdict("training", parse_threshold("0"), 1000, 1100, Change(Kind.MODULE, "first", 0, growth))
    assert f"; {words} in module first (+{growth} B)" in verdict_words(verdict)


def test_the_model_itself_is_no_module_of_that_name() -> None:
    verdict = Verdict("training", parse_threshold("0"), 1000, 1100, Change(Kind.MODULE, "", 0, 51))
    assert verdict_words(verdict).endswith("; most of it in the model itself (+51 B)")


def test_what_a_side_lacks_is_none() -> None:
    before, after = samples.comparison(), samples.comparison()
    without = replace(after, workload={**after.workload, "batch": None, "checkpoint": True})
    assert "not alike: batch 4 before, none after\n" in printed(diff_comparisons(before, without))


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        ("activation_gradients:0", "activation gradients (at the category's own fullest moment) grew"),
        ("module=first:0", "module first with all below it (at its own fullest moment) grew"),
        ("peak:0", "training: peak grew"),
    ],
)
def test_a_verdict_names_the_moment_that_it_judges(threshold: str, words: str) -> None:
    assert words in verdict_words(Verdict("training", parse_threshold(threshold), 1000, 1100))


@pytest.mark.parametrize("width", [35, 40, 50, 60])
def test_names_are_kept_on_a_narrow_terminal(width: int) -> None:
    lines = printed(sample(), width).splitlines()
    for name in ("parameters", "activations", "total at the peak", "forward", "transient", "first", "aten::linear"):
        assert any(re.match(rf"{name} .*B", line) for line in lines), name
    assert max(map(len, lines)) <= width


def test_both_sizes_stand_below_the_name_where_they_have_no_columns() -> None:
    lines = printed(sample(), 35).splitlines()
    name = next(n for n, line in enumerate(lines) if line.startswith("activations "))
    assert [line.split() for line in lines[name : name + 3]] == [
        ["activations", "+480", "B"],
        ["480", "B"],
        ["to", "960", "B"],
    ]
    assert [line for line in lines if line != line.rstrip()] == []


def test_nothing_changed_is_said() -> None:
    assert "nothing changed" in printed(sample(samples.ACTIVATION))


def test_hostile_names_are_text_on_a_terminal() -> None:
    diff = diff_comparisons(samples.comparison(), samples.hostile())
    text = printed(diff, force_terminal=True, color_system=None)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_hostile_names_are_text_in_markdown() -> None:
    text = diff_markdown(diff_comparisons(samples.comparison(), samples.hostile()), top=50)
    tags = set(re.findall(r"<[^>]*>", text))
    assert tags <= {"<code>", "</code>", "<details>", "</details>", *re.findall(r"</?summary>", text)}
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") == 6, line  # five cells, whatever the names hold
    assert "[link]" not in text
    assert "@somebody" not in text


def test_modules_are_listed_by_their_change() -> None:
    part = sample().passes[1]
    growth = [abs(change.growth_bytes) for change in part.changed(Kind.MODULE)]
    assert growth == sorted(growth, reverse=True)
