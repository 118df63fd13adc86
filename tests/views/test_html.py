"""The HTML page in a real browser: what it shows, that it works, and that it stays by itself."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.allocator.snapshot_builder import Program, frame, load

from browser import Page, find_chromium
from helpers import Script
from views import samples
from vramscope.allocator.snapshot.importer import import_snapshot
from vramscope.errors import OutputError, UnsupportedError
from vramscope.ledger.comparison import Comparison, RunWindow, compare_recordings
from vramscope.names import visible
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.recording import Recording
from vramscope.views.html import page as page_module
from vramscope.views.html import page_text, write_html
from vramscope.views.json import comparison_document
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

MOST_BYTES = 6_000_000
DRAWN = "document.documentElement.dataset.ready"
needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install chromium to run this")


def data_of(text: str) -> Any:
    """The figures that a page carries."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def in_steps(steps: int) -> Recording:
    """A recording of so many steps, and of something after them."""
    script = Script()
    for index in range(steps):
        with script.step(index):
            script.alloc(index, 10)
    script.alloc(9, 10)
    return script.recording()


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with Page(find_chromium()) as page:
        yield page


@pytest.fixture
def opened(browser: Page, tmp_path: Path) -> Any:
    def open_page(comparison: Comparison, *, dark: bool = False) -> Page:
        write_html(comparison, tmp_path / "page.html")
        browser.problems.clear()
        browser.requests.clear()
        browser.open(tmp_path / "page.html", dark=dark)
        browser.wait_for(DRAWN)
        return browser

    return open_page


def box_of(page: Page, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element, scrolled into view."""
    return tuple(
        page.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView("
            "{block: 'center'}); const box = found.getBoundingClientRect(); "
            "return [box.x, box.y, box.width, box.height]; })()"
        )
    )


def press(page: Page, group: str, label: str) -> None:
    buttons = f"[...document.querySelectorAll('#{group} button')]"
    page.evaluate(f"{buttons}.find(button => button.textContent === {json.dumps(label)}).click()")


def column(page: Page, number: int) -> list[int]:
    """The exact figures of a column of the lower table."""
    cells = f"document.querySelectorAll('#rows tbody td:nth-child({number})')"
    return page.evaluate(f"[...{cells}].map(cell => Number(cell.dataset.bytes))")


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_an_error_and_without_the_network(opened: Any, tmp_path: Path, dark: bool) -> None:
    page = opened(samples.comparison(), dark=dark)
    assert page.problems == []
    assert page.requests == [(tmp_path / "page.html").as_uri()]
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness < 100) == dark


@needs_browser
def test_a_gpus_reserved_memory_is_a_line_of_its_own(opened: Any) -> None:
    page = opened(compare_recordings({"training": samples.on_gpu(samples.training())}))
    line = "document.getElementById('timeline').data.filter(t => t.name == 'reserved by the allocator')"
    total = "document.getElementById('timeline').data.find(t => t.name == 'total')"
    assert page.evaluate(f"{line}.length") == 1
    # 2 weights, an activation and 2 gradients: 4 x 1,600 + 480 = 6,880 B at most, in segments of 4,096 B
    highest = [page.evaluate(f"Math.max(...Array.from({trace}.y))") for trace in (f"{line}[0]", total)]
    assert highest[0] / highest[1] == pytest.approx(8192 / 6880)
    assert not opened(samples.comparison()).evaluate(f"{line}.length")


@needs_browser
def test_figures_on_the_page_equal_the_json(opened: Any) -> None:
    comparison = samples.comparison()
    page, document = opened(comparison), comparison_document(comparison, "report")
    for number, figures in enumerate(document["passes"].values()):
        expected = {k: v for k, v in figures["peak"]["by_category"].items() if v or k == "unattributed"}
        for category, size in [*expected.items(), ("total", figures["peak"]["bytes"])]:
            cells = f"document.querySelectorAll('#peaks td[data-figure={category}]')"
            # a category that one pass has and another has not is there with 0
            assert page.evaluate(f"Number({cells}[{number}].dataset.bytes)") == size
    training = document["passes"]["training"]
    rows = {row["path"]: row for row in training["modules"]}
    assert sum(column(page, 3)) == sum(row["parameter_bytes"] for row in rows.values())
    assert sum(column(page, 4)) == training["activations"]["retained_bytes"]
    assert sum(column(page, 5)) == sum(row["gradient_bytes"] for row in rows.values())
    press(page, "table", "operators")
    assert sum(column(page, 2)) == training["peak"]["bytes"]
    press(page, "table", "source lines")
    assert sum(column(page, 4)) == training["peak"]["bytes"]


@needs_browser
def test_the_columns_sum_to_the_printed_totals(opened: Any) -> None:
    page = opened(samples.comparison())
    for table, summed in (("modules", (3, 4, 5, 6)), ("operators", (2, 4)), ("source lines", (4,))):
        press(page, "table", table)
        for number in summed:
            foot = page.evaluate(f"Number(document.querySelector('#rows tfoot td:nth-child({number})').dataset.bytes)")
            assert sum(column(page, number)) == foot


@needs_browser
def test_hovering_shows_the_composition_and_the_largest_blocks(opened: Any) -> None:
    page = opened(samples.comparison())
    left, top, _, height = box_of(page, "#timeline .nsewdrag")
    shown = "document.querySelector('#moment h3').dataset.bytes"
    # until the pointer is over the chart, the peak: two weights, two gradients, one activation
    assert page.evaluate(shown) == "6880"
    page.mouse("Moved", left + 4, top + height / 2)
    page.wait_for(f"{shown} !== '6880'")
    rows = "[...document.querySelectorAll('#moment table:not(#largest) td[data-bytes]')]"
    total = page.evaluate(f"{rows}.reduce((sum, cell) => sum + Number(cell.dataset.bytes), 0)")
    assert total == int(page.evaluate(shown))
    assert "first.weight" in page.evaluate("document.getElementById('largest').textContent")


@needs_browser
def test_dragging_zooms_and_a_double_click_goes_back(opened: Any) -> None:
    page = opened(samples.comparison())
    left, top, width, height = box_of(page, "#timeline .nsewdrag")
    ask = "document.getElementById('timeline').layout.xaxis.range.map(Number)"
    before = page.evaluate(ask)
    page.drag((left + width * 0.25, top + height / 2), (left + width * 0.5, top + height / 2))
    page.wait_for(f"{ask}[1] < {before[1]}")
    begin, end = page.evaluate(ask)
    assert before[0] < begin < end < before[1]
    for _ in range(2):
        page.click(left + width / 2, top + height / 2)
    page.wait_for(f"{ask}[1] >= {before[1]}")
    assert page.problems == []


@needs_browser
def test_the_icicle_zooms(opened: Any) -> None:
    page = opened(samples.comparison(names=("body.first", "body.second")))
    texts = "[...document.querySelectorAll('#icicle .slicetext')].map(text => text.textContent)"
    page.wait_for(f"{texts}.some(text => text.startsWith('second'))")
    drawn = page.evaluate(texts)
    assert any(text.startswith("body") for text in drawn)
    box_of(page, "#icicle")
    left, top, width, height = page.evaluate(
        "(() => { const wanted = [...document.querySelectorAll('#icicle .slice')].find(slice => "
        "slice.textContent.startsWith('first')); const box = wanted.getBoundingClientRect(); "
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    page.click(left + width / 2, top + height / 2)
    page.wait_for(f"!{texts}.some(text => text.startsWith('second'))")
    assert page.problems == []


@needs_browser
def test_every_choice_can_be_made(opened: Any) -> None:
    page = opened(samples.comparison())
    groups = page.evaluate(
        "Object.fromEntries(['passes', 'range', 'axis', 'measure', 'table'].map(id => "
        "[id, [...document.querySelectorAll(`#${id} button`)].map(button => button.textContent)]))"
    )
    for group, labels in groups.items():
        for label in labels:
            press(page, group, label)
            chosen = page.evaluate(f"document.querySelector('#{group} button[aria-pressed=true]').textContent")
            assert chosen == label
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.problems == []


@needs_browser
@pytest.mark.parametrize(("steps", "extent"), [(0, "whole recording"), (2, "steady steps")])
def test_operators_say_over_what_they_are_counted(opened: Any, steps: int, extent: str) -> None:
    page = opened(compare_recordings({"other": in_steps(steps)}))
    press(page, "table", "operators")
    heads = page.evaluate("[...document.querySelectorAll('#rows th')].map(head => head.textContent)")
    assert heads[3:] == [f"allocated in the {extent}", f"allocations in the {extent}"]


@needs_browser
@pytest.mark.parametrize("steps", [0, 2])
def test_steady_steps_are_offered_where_there_are_some(opened: Any, steps: int) -> None:
    page = opened(compare_recordings({"other": in_steps(steps)}))
    assert page.evaluate("getComputedStyle(document.getElementById('range')).display !== 'none'") is bool(steps)


@needs_browser
def test_tables_are_sorted_and_filtered(opened: Any) -> None:
    page = opened(samples.comparison())
    names = "[...document.querySelectorAll('#rows tbody td:first-child')].map(cell => cell.textContent)"
    page.evaluate("document.querySelector('#rows th button').click()")
    assert page.evaluate(names) == sorted(page.evaluate(names))
    # the heading that was pressed keeps the focus, so that a keyboard, whose keys press buttons, can press it again
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    page.evaluate("document.activeElement.click()")
    assert page.evaluate(names) == sorted(page.evaluate(names), reverse=True)
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    page.evaluate(
        "(() => { const box = document.getElementById('filter'); box.value = 'SECOND'; box.oninput({target: box}); })()"
    )
    assert page.evaluate(names) == ["second"]


@needs_browser
def test_ties_are_rounded_alike_in_the_table_and_in_the_panel(opened: Any) -> None:
    # 160,000 B are 156.25 KiB, which lies in the middle: to even it is 156.2
    page = opened(samples.comparison(activation=160_000 - 2 * samples.WEIGHT))
    texts = page.evaluate(
        "[...document.querySelectorAll('[data-bytes=\"160000\"]')].map(cell => [cell.tagName, cell.textContent])"
    )
    press(page, "passes", "inference")
    texts += page.evaluate("[['H3', document.querySelector('#moment h3').textContent]]")
    assert {tag for tag, _ in texts} >= {"TD", "H3"}
    assert {text for _, text in texts} == {"156.2 KiB"}


@needs_browser
def test_what_a_snapshot_does_not_hold_is_left_out(opened: Any, tmp_path: Path) -> None:
    program = Program()
    for line in (3, 7):
        program.malloc(1 << 20, frames=[frame("forward", "net.py", line)])
    page = opened(compare_recordings({"recording": import_snapshot(load(program.snapshot(), tmp_path))}))
    assert page.evaluate("document.getElementById('modules').hidden") is True
    tables = page.evaluate("[...document.querySelectorAll('#table button')].map(button => button.textContent)")
    assert tables == ["operators", "source lines"]
    blocks = page.evaluate("document.getElementById('largest').textContent")
    assert "net.py:3" in blocks
    assert "?" not in blocks
    assert page.evaluate("document.querySelector('h1').textContent").endswith(".pickle")
    assert "/" not in page.evaluate("document.querySelector('h1').textContent")


@needs_browser
def test_modules_too_small_to_draw_are_drawn_together(opened: Any) -> None:
    # 602 of one size: each has less than a 500th of their sum
    names = tuple(f"layer{number}" for number in range(602))
    page = opened(compare_recordings({"training": samples.training(names=names)}))
    press(page, "measure", "parameters")
    texts = "[...document.querySelectorAll('#icicle .slicetext')].map(text => text.textContent)"
    page.wait_for(f"{texts}.some(text => text.startsWith('602 small modules'))")
    assert page.problems == []


def test_a_window_of_a_run_says_which_it_is() -> None:
    shown = replace(samples.comparison(), window=RunWindow(1, 24, 26))
    assert "<li>steps 24 to 26 (window 1)</li>" in page_text(shown)
    assert "step 24 (window 1)" in page_text(replace(shown, window=RunWindow(1, 24, 24)))


@needs_browser
def test_hostile_names_are_only_text(opened: Any) -> None:
    page = opened(samples.hostile())
    for group, label in (("measure", "parameters"), ("table", "operators"), ("table", "modules")):
        press(page, group, label)
    left, top, width, height = box_of(page, "#icicle")
    for part in (0.1, 0.5, 0.9):
        page.mouse("Moved", left + width * part, top + height * 0.8)
    left, top, width, height = box_of(page, "#timeline .nsewdrag")
    page.mouse("Moved", left + width / 2, top + height / 2)
    assert page.evaluate("document.title") == "sample: memory"
    assert page.evaluate("document.querySelectorAll('img, a[href], iframe, object').length") == 0
    assert page.evaluate("document.scripts.length") == 3
    assert page.problems == []
    listed = page.evaluate("[...document.querySelectorAll('#rows tbody td:first-child')].map(cell => cell.textContent)")
    # a dot parts a path, and every path above one is a row of its own
    assert {visible(name) for name in samples.HOSTILE} <= set(listed)


@needs_browser
def test_a_long_recording_is_drawn_with_its_peak(opened: Any) -> None:
    comparison = compare_recordings({"training": samples.long_recording()})
    page = opened(comparison)
    # the one block of a GiB is among the 100,000 events, and must not be thinned out
    assert page.evaluate("document.querySelector('#moment h3').dataset.bytes") == str(
        comparison.passes["training"].peak.bytes
    )
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint').length") == 1
    assert page.problems == []


def test_a_long_recording_makes_a_small_page() -> None:
    text = page_text(compare_recordings({"training": samples.long_recording()}))
    assert len(text.encode()) < MOST_BYTES
    assert len(data_of(text)["passes"][0]["timeline"]["events"]) < 10_000


def test_a_real_recording_of_gpt2_makes_a_small_page() -> None:
    options = WorkloadOptions(steps=1, seq=16)  # how many events there are does not depend on the tokens
    recording = run_pass(resolve("gpt2"), options, PassName.TRAINING, ProfilerRecorder(), lambda text: None)
    comparison = compare_recordings({"training": recording})
    # 124,439,808 parameters of four bytes
    assert comparison.passes["training"].peak.by_category["parameters"] == 497_759_232
    assert len(page_text(comparison).encode()) < MOST_BYTES


def test_the_timeline_that_is_drawn_equals_the_ledger() -> None:
    comparison = samples.comparison()
    drawn = data_of(page_text(comparison))["passes"][1]["timeline"]
    ledger = comparison.ledgers["training"]
    totals = [0] * len(drawn["events"])
    for places, levels in drawn["series"].values():
        for row in range(len(totals)):
            reached = [level for place, level in zip(places, levels, strict=True) if place <= row]
            totals[row] += reached[-1] if reached else 0
    assert totals == [sum(ledger.composition(event).values()) for event in drawn["events"]]
    assert totals[drawn["peakAt"]] == comparison.passes["training"].peak.bytes


def test_modules_whose_names_look_alike_stay_apart() -> None:
    # a path is shown with its middle cut out, and these differ only there
    long = tuple(f"{'a' * 150}{middle}{'b' * 150}" for middle in "xy")
    modules = data_of(page_text(samples.comparison(names=long)))["passes"][1]["modules"]
    assert len({module["path"] for module in modules}) == 2  # the model itself, and both
    assert [module["parent"] for module in modules] == [None, 0, 0]


def test_nothing_in_the_page_can_leave_it() -> None:
    text = page_text(samples.hostile())
    own = text.replace(page_module._plotly(), "")
    assert "default-src 'none'" in own
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?https?:", own)
    # the data cannot end its element: not one bracket of a tag is in it
    inside = re.search(r'id="data">(.*?)</script>', own, re.DOTALL)[1]
    assert not set("<>&\u2028\u2029") & set(inside)


def test_an_empty_recording_has_a_page() -> None:
    empty = samples.Script()
    assert "no Python frame" not in page_text(compare_recordings({"recording": empty.recording()}))


def test_without_plotly_the_reader_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page_module.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'vramscope\[html\]'"):
        write_html(samples.comparison(), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_html(samples.comparison(), tmp_path / "nowhere" / "page.html")
