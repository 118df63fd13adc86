"""The pytest plugin, as a project uses it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vramscope
from plugin.runs import Project, figures, outcomes
from vramscope.recording.file import read_recording
from vramscope.testing.baseline import results_document
from vramscope.testing.figures import TestFigures

# float32: four bytes for each of the thousand numbers
SUITE = """
import unittest
import pytest
import torch
from torch import nn

KEPT = []

@pytest.mark.limit_vram("3999 B")
def test_over():
    torch.zeros(1000)

@pytest.mark.limit_vram("4000 B")
def test_at():
    torch.zeros(1000)

@pytest.mark.limit_vram("4001 B")
def test_under():
    torch.zeros(1000)

@pytest.mark.limit_vram_leaks("399 B")
def test_leak():
    KEPT.append(torch.zeros(100))

@pytest.mark.limit_vram_leaks("400 B")
def test_leak_within():
    KEPT.append(torch.zeros(100))

@pytest.mark.limit_vram_leaks("0 B")
def test_no_leak_of_a_model():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 10)).sum().backward()
    optimizer.step()

@pytest.mark.xfail(strict=True, reason="too much")
@pytest.mark.limit_vram("1 B")
def test_expected_to_fail():
    torch.zeros(1000)

@pytest.mark.skip(reason="not now")
@pytest.mark.limit_vram("1 B")
def test_skipped():
    torch.zeros(1000)

@pytest.mark.limit_vram("4000 B")
@pytest.mark.parametrize("count", [1000, 1001])
def test_parametrized(count):
    torch.zeros(count)

@pytest.fixture
def large():
    return torch.zeros(100_000)

@pytest.mark.limit_vram("4000 B")
def test_fixtures_do_not_count(large):
    torch.zeros(1000)

@pytest.mark.limit_vram("100 B")
class TestClass:
    def test_inherits(self):
        torch.zeros(1000)

    @pytest.mark.limit_vram("4000 B")
    def test_overrides(self):
        torch.zeros(1000)

@pytest.mark.limit_vram("1000 B")
class TestCase(unittest.TestCase):
    def test_case(self):
        torch.zeros(1000)

@pytest.mark.limit_vram("799 B", category="parameters")
def test_category():
    # Linear(10, 20): 220 parameters of four bytes
    nn.Linear(10, 20)(torch.ones(1, 10))

@pytest.mark.limit_vram("880 B", category="parameters")
def test_category_within():
    nn.Linear(10, 20)(torch.ones(1, 10))

@pytest.mark.limit_vram("1 B")
def test_fails_by_itself():
    tensor = torch.zeros(1000)
    assert not tensor.any(), "fine"
    raise ValueError("its own failure")

CACHE = {}

def cached():
    if "table" not in CACHE:
        CACHE["table"] = torch.zeros(5000)

@pytest.mark.limit_vram("4000 B", warmup=1)
def test_warmed_up():
    cached()
    torch.zeros(1000)
    CACHE.setdefault("runs", []).append(1)
    assert len(CACHE["runs"]) <= 2

@pytest.mark.limit_vram("30 KB")
def test_profiles_a_block(vramscope):
    before = torch.zeros(1000)
    model = nn.Linear(10, 20)
    with vramscope.profile(model) as profile:
        model(torch.ones(4, 10)).sum().backward()
    assert profile.ledger.max_disagreement_bytes() == 0
    assert profile.summary.peak.by_category["parameters"] == 880

@pytest.mark.limit_vram("4000 B")
def test_block_counts_for_the_limit(vramscope):
    with vramscope.profile():
        torch.zeros(2000)

def test_unmarked(vramscope):
    with vramscope.profile() as profile:
        torch.zeros(1000)
    assert profile.summary.peak.bytes == 4000
"""
EXPECTED = {
    **dict.fromkeys(("test_at", "test_under", "test_leak_within", "test_no_leak_of_a_model"), "PASSED"),
    **dict.fromkeys(("test_over", "test_leak", "test_parametrized[1001]", "TestClass::test_inherits"), "FAILED"),
    **dict.fromkeys(("TestCase::test_case", "test_category", "test_fails_by_itself"), "FAILED"),
    **dict.fromkeys(("test_parametrized[1000]", "test_fixtures_do_not_count", "TestClass::test_overrides"), "PASSED"),
    **dict.fromkeys(("test_category_within", "test_warmed_up", "test_profiles_a_block", "test_unmarked"), "PASSED"),
    "test_block_counts_for_the_limit": "FAILED",
    "test_expected_to_fail": "XFAIL",
}


@pytest.fixture(scope="module")
def suite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(SUITE)
    return folder


@pytest.fixture
def suite(suite_folder: Path, project_in: Callable[[Path], Project]) -> Project:
    return project_in(suite_folder)


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the suite printed, once it has run: `pytester` is of one test, and this run serves many."""
    return []


@pytest.fixture
def plain_run(suite: Project, printed: list[str]) -> str:
    """The suite with every output: the other tests look at what it wrote."""
    options = ("--vramscope", "--vramscope-json", "out.json", "--vramscope-report", "report", "--junitxml", "junit.xml")
    if not printed:
        printed.append(suite.run(*options, "--vramscope-save", "base.json", code=1))
    return printed[0]


def test_outcomes(plain_run: str) -> None:
    assert {name: found for name, found in outcomes(plain_run).items() if "SKIPPED" not in found} == EXPECTED


def test_messages_say_what_and_where(plain_run: str) -> None:
    for words in (
        "the test held 3.9 KiB (4,000 B) in all on cpu, 1 B more than limit_vram allows: 3.9 KiB (3,999 B)",
        "400 B that the test allocated on cpu are still there after it, 1 B more than limit_vram_leaks allows: 399 B",
        "the test held 880 B of parameters on cpu, 81 B more than limit_vram allows: 799 B",
        "by module at that moment: (no submodule) 880 B",
        "its own failure",
    ):
        assert words in plain_run


def test_the_table_lists_the_heaviest_first(plain_run: str, suite: Project) -> None:
    table = plain_run.partition("memory of tests (vramscope)")[2].splitlines()[2:12]
    listed = [line.partition("::")[2].split(" (")[0] for line in table]
    ranked = sorted(figures(suite.path / "out.json").values(), key=lambda test: (-test["peak_bytes"], test["test"]))
    assert listed == [test["test"].partition("::")[2] for test in ranked[:10]]


def test_the_figures_add_up(plain_run: str, suite: Project) -> None:
    found = figures(suite.path / "out.json")
    assert found["test_at"]["peak_bytes"] == 4000
    assert found["test_leak"]["leaked_bytes"] == 400
    for test in found.values():
        assert sum(test["by_category"].values()) == test["peak_bytes"]
        assert sum(test["modules"].values()) == test["peak_bytes"]
        assert sum(test["leaked_by_category"].values()) == test["leaked_bytes"]
        for category, modules in test["category_modules"].items():
            assert sum(modules.values()) == test["category_peaks"][category]


def test_junit_agrees_with_the_terminal(plain_run: str, suite: Project) -> None:
    found = ElementTree.parse(suite.path / "junit.xml").iter("testcase")
    cases = {"::".join([*case.get("classname", "").split(".")[1:], case.get("name", "")]): case for case in found}
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {name for name, found in EXPECTED.items() if found == "FAILED"}
    for name, test in figures(suite.path / "out.json").items():
        properties = {p.get("name"): p.get("value") for p in cases[name].iter("property")}
        assert properties["vramscope_peak_bytes"] == str(test["peak_bytes"])


def test_the_report_has_every_recording(plain_run: str, suite: Project) -> None:
    page = (suite.path / "report" / "index.html").read_text()
    for name, test in figures(suite.path / "out.json").items():
        assert name in page
        assert f'data-bytes="{test["peak_bytes"]}"' in page
        recording = read_recording(suite.path / "report" / test["recording"])
        assert len(recording.events)
    assert "<script" not in page
    assert "1 B more than limit_vram allows: 3.9 KiB (3,999 B)</div>" in page  # why it failed


def test_workers_of_xdist_are_merged(plain_run: str, suite: Project) -> None:
    pytest.importorskip("xdist")
    text = suite.run("-n", "2", "--vramscope", "--vramscope-json", "two.json", code=1)
    assert {name: found for name, found in outcomes(text).items() if "SKIPPED" not in found} == EXPECTED
    one, two = figures(suite.path / "out.json"), figures(suite.path / "two.json")
    assert {name: test["peak_bytes"] for name, test in one.items()} == {
        name: test["peak_bytes"] for name, test in two.items()
    }


def test_a_baseline_of_itself_has_no_regression(plain_run: str, suite: Project) -> None:
    text = suite.run(
        *("-k", "test_at or test_under", "--vramscope-compare", "base.json"),
        *("--vramscope-fail-over", "0%", "--vramscope-fail-over", "activations:0"),
        code=0,
    )
    assert text.count("same") == 2


@pytest.mark.parametrize(("gate", "code"), [((), 0), (("--vramscope-fail-over", "5%"), 1)])
def test_a_baseline_of_another_device_is_compared_with_nothing(
    plain_run: str, suite: Project, gate: tuple[str, ...], code: int
) -> None:
    saved = (suite.path / "base.json").read_text()
    (suite.path / "elsewhere.json").write_text(saved.replace('"device": "cpu"', '"device": "cuda:0"'))
    text = suite.run("-k", "test_at", "--vramscope-compare", "elsewhere.json", *gate, code=code)
    assert "was on cuda:0" in text
    assert ("is of cuda:0, and it ran on cpu: save another one" in text) is bool(gate)


BAD_MARKERS = """
import pytest

@pytest.mark.limit_vram("5 parsecs")
def test_unit(): ...

@pytest.mark.limit_vram("5 MBs of junk")
def test_junk(): ...

@pytest.mark.limit_vram(5)
def test_number(): ...

@pytest.mark.limit_vram("5 MB", catgory="activations")
def test_option(): ...

@pytest.mark.limit_vram("5 MB", category="activation")
def test_category(): ...

@pytest.mark.limit_vram("5 MB", device="tpu")
def test_device(): ...

@pytest.mark.limit_vram_leaks("0 B", warmup=-1)
def test_warmup(): ...
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_malformed_markers_are_refused_at_collection(project: Project, workers: tuple[str, ...]) -> None:
    project.write("test_bad.py", BAD_MARKERS)
    text = project.run(*workers, code=4)
    for words in (
        "'5 parsecs' is not a size",
        "'5 MBs of junk'",
        "takes one size as text",
        "'catgory'",
        "did you mean",
    ):
        assert words in text
    assert text.count("vramscope: test_bad.py::") == 7
    assert "Traceback" not in text


ADDED = """
import pytest, torch

@pytest.fixture
def limited(request):
    request.node.add_marker(pytest.mark.limit_vram("3999 B"))

@pytest.fixture
def malformed(request):
    request.node.add_marker(pytest.mark.limit_vram("5 parsecs"))

def test_by_a_fixture(limited):
    torch.zeros(1000)

def test_by_a_hook():
    torch.zeros(1000)

def test_malformed(malformed): ...
"""
ADDS = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    next(item for item in items if item.name == "test_by_a_hook").add_marker(pytest.mark.limit_vram("3999 B"))
"""


def test_limits_that_are_added_late_count(project: Project) -> None:
    project.write("test_added.py", ADDED)
    project.write("conftest.py", ADDS)
    text = project.run(code=1)
    assert set(outcomes(text).values()) == {"FAILED"}
    held = (
        "\nvramscope: the test held 3.9 KiB (4,000 B) in all on cpu, 1 B more than limit_vram allows: 3.9 KiB (3,999 B)"
    )
    assert text.count(held) == 2
    assert "\nvramscope: '5 parsecs' is not a size" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--vramscope-compare", "missing.json"), "cannot read the baseline"),
        (("--vramscope-compare", "test_fine.py"), "no JSON"),
        (("--vramscope-compare", "other.json"), "no baseline of vramscope's"),
        (("--vramscope-compare", "torn.json"), "damaged"),
        (("--vramscope-fail-over", "5%"), "--vramscope-compare"),
        (("--vramscope-default-limit", "5 MBs"), "--vramscope-default-limit: '5 MBs' is not a size"),
        (("--vramscope-top", "many"), "--vramscope-top many"),
        (("--vramscope-json", "nowhere/x.json"), "nowhere"),
        (("--vramscope-save", "-"), "--vramscope-save -: standard output is pytest's own"),
        (("--vramscope-report", "test_fine.py/report"), "--vramscope-report"),
        (("--vramscope-report", "test_fine.py"), "--vramscope-report"),
        (("--vramscope-compare", "empty.json"), "the baseline is empty"),
        (("--vramscope-compare", "unmatched.json"), "knows none of the 1 tests of this run"),
        (("--vramscope-compare", "unmatched.json", "-n", "1"), "knows none of the 1 tests of this run"),
        *(
            ((f"--vramscope-{name}", ""), f"--vramscope-{name} is empty")
            for name in ("json", "save", "compare", "top", "default-limit", "report", "fail-over")
        ),
        (("-o", "vramscope-json="), "--vramscope-json is empty"),
        (("-o", "vramscope_fail_over="), "--vramscope-fail-over is empty"),
        (("-o", "vramscope=perhaps"), "vramscope in the ini file: invalid truth value 'perhaps': say true or false"),
    ],
)
def test_malformed_options_end_with_4(project: Project, options: tuple[str, ...], words: str) -> None:
    project.write("test_fine.py", "def test_fine(): ...")
    project.write("other.json", "[1, 2]")
    project.write("empty.json", json.dumps(results_document({})))
    elsewhere = TestFigures("cpu", 1, 0, {}, {}, {}, {}, {}).to_json()
    project.write("unmatched.json", json.dumps(results_document({"other.py::test_fine": elsewhere})))
    project.write("torn.json", '{"schema": "vramscope/1", "tool": "pytest", "tests": [{"test": "a"}]}')
    text = (project.run if "-n" in options or "missing.json" in options else project.run_here)(*options, code=4)
    assert words in text
    assert "Traceback" not in text


ONE_TEST = "import torch\ndef test_one():\n    torch.zeros({})\n"


def configure(project: Project, separator: str, **options: str) -> None:
    """Write the ini file; ``table`` stands for the option without a name of its own."""
    names = {name: f"vramscope_{name}".removesuffix("_table").replace("_", separator) for name in options}
    project.write("pytest.ini", "\n".join(["[pytest]", *(f"{names[n]} = {value}" for n, value in options.items())]))


@pytest.mark.parametrize("separator", ["-", "_"])
def test_ini_options_are_honoured(project: Project, separator: str) -> None:
    project.write("test_one.py", ONE_TEST.format(1000))
    configure(project, separator, table="true", json="out.json", top="1", default_limit="3999 B")
    text = project.run(code=1)
    assert "1 B more than limit_vram allows" in text
    assert "memory of tests (vramscope)" in text
    assert figures(project.path / "out.json")["test_one"]["peak_bytes"] == 4000


def test_the_command_line_wins_over_the_ini_file(project: Project) -> None:
    project.write("test_one.py", ONE_TEST.format(1000))
    configure(project, "-", default_limit="3999 B")
    project.run("--vramscope-default-limit", "4000 B", code=0)


def test_a_baseline_and_a_report_can_stand_in_the_ini_file(project: Project) -> None:
    project.write("test_one.py", ONE_TEST.format(1000))
    configure(project, "_", save="base.json", report="report")
    project.run(code=0)
    assert figures(project.path / "base.json")["test_one"]["peak_bytes"] == 4000
    assert (project.path / "report" / "index.html").exists()
    project.write("test_one.py", ONE_TEST.format(1001))  # four bytes more
    configure(project, "-", compare="base.json", fail_over="peak:3B")
    assert "peak grew from" in project.run(code=1)


def test_torch_is_loaded_only_when_it_is_used(project: Project) -> None:
    project.write(
        "test_light.py", "import sys\ndef test_light():\n    assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    project.run("-p", "no:memray", code=0)


def test_limits_do_not_depend_on_order(project: Project) -> None:
    old = "import pytest, torch\nOLD = []\n"
    fills = "def test_fills():\n    OLD.append(torch.zeros(10_000))\n"
    empties = '@pytest.mark.limit_vram("4000 B")\ndef test_empties():\n    OLD.clear()\n    torch.zeros(1000)\n'
    project.write("test_after.py", old + fills + empties)
    project.write("test_alone.py", old + empties)
    project.run("--vramscope", "--vramscope-json", "out.json", code=0)
    tests = json.loads((project.path / "out.json").read_text())["tests"]
    assert [test["peak_bytes"] for test in tests if test["test"].endswith("empties")] == [4000, 4000]


def test_together_with_memray_and_benchmark(project: Project) -> None:
    pytest.importorskip("pytest_memray")
    pytest.importorskip("pytest_benchmark")
    project.write(
        "test_all.py",
        "import pytest, torch\n"
        '@pytest.mark.limit_memory("100 MB")\n@pytest.mark.limit_vram("4000 B")\n'
        "def test_both():\n    torch.zeros(1000)\n"
        '@pytest.mark.limit_memory("100 MB")\n@pytest.mark.limit_vram("3999 B")\n'
        "def test_over():\n    torch.zeros(1000)\n"
        '@pytest.mark.limit_vram("8000 B")\n'  # the result of one round is there until the next one's is
        "def test_fast(benchmark):\n    benchmark.pedantic(torch.zeros, (1000,), rounds=3)\n",
    )
    text = project.run("--memray", "--vramscope", code=1)
    assert outcomes(text) == {"test_both": "PASSED", "test_over": "FAILED", "test_fast": "PASSED"}


@pytest.mark.parametrize("version", [8, 9])
def test_pytest_8_and_9(
    version: int, tmp_path_factory: pytest.TempPathFactory, suite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(Path(vramscope.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    if version != int(pytest.__version__.partition(".")[0]):
        paths.insert(0, str(tmp_path_factory.mktemp(f"pytest{version}")))
        install = (sys.executable, "-m", "pip", "install", "-q", "--target", paths[0])
        wanted = f"pytest>={version},<{version + 1}"
        if subprocess.run([*install, wanted], capture_output=True, check=False, timeout=300).returncode:
            pytest.skip(f"pytest {version} cannot be installed here")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    assert f"pytest {version}." in suite.run("--version")
    chosen = ("-k", "TestClass or test_parametrized or test_leak or test_expected", "-p", "no:xdist")
    found = outcomes(suite.run(*chosen, "--vramscope", code=1))
    assert len(found) == 7
    assert found == {name: EXPECTED[name] for name in found}


def test_without_an_option_or_marker_nothing_is_shown(project: Project) -> None:
    project.write("test_none.py", "def test_none(): ...")
    assert "vramscope" not in project.run(code=0)


def test_an_empty_run_writes_its_files(project: Project) -> None:
    project.write("test_none.py", "import pytest\n@pytest.mark.skip\ndef test_none(): ...")
    text = project.run("--vramscope", "--vramscope-json", "out.json", code=0)
    assert "no test was measured" in text
    assert json.loads((project.path / "out.json").read_text())["tests"] == []


FAILS = "def test_fails():\n    assert False\n\ndef test_next(): ...\n"
BAD_MARKER = "import pytest\n@pytest.mark.limit_vram('5 parsecs')\ndef test_bad(): ...\n"


@pytest.mark.parametrize(
    ("text", "workers", "code", "why"),
    [
        (BAD_MARKER, (), 4, "no test passed"),
        (BAD_MARKER, ("-n", "1"), 4, "no test passed"),
        ("raise KeyError('a module that cannot be imported')", (), 2, "the run was cut short"),
        ("def test_interrupted():\n    raise KeyboardInterrupt\n", (), 2, "the run was cut short"),
        (FAILS, ("-x",), 1, "the run was cut short"),
        (FAILS, ("-x", "-n", "1"), 2, "the run was cut short"),
    ],
)
def test_a_run_that_was_cut_short_leaves_the_baseline_alone(
    project: Project, text: str, workers: tuple[str, ...], code: int, why: str
) -> None:
    project.write("test_one.py", ONE_TEST.format(1000))
    project.write("test_two.py", text)
    project.write("base.json", "of an earlier run")
    assert f"base.json: {why}" in project.run(*workers, "--vramscope-save", "base.json", code=code)
    assert (project.path / "base.json").read_text() == "of an earlier run"


def test_a_recording_that_cannot_be_kept_ends_the_run_with_4(project: Project) -> None:
    project.write(
        "test_in_the_way.py",
        "import pathlib\n"
        "def test_in_the_way():\n"
        "    pathlib.Path('report').mkdir()\n"
        "    pathlib.Path('report/recordings').write_text('a file')\n",
    )
    text = project.run("--vramscope-report", "report", code=4)
    assert "ERROR: vramscope: test_in_the_way.py::test_in_the_way: cannot make the folder" in text
    assert outcomes(text) == {"test_in_the_way": "PASSED"}
    assert "Traceback" not in text


CACHE = """
import pytest, torch

TABLE = {}

def table():
    if not TABLE:
        TABLE["rows"] = torch.zeros(1000)
    return TABLE["rows"]

@pytest.mark.limit_vram("8000 B"WARMUP)
def test_first():
    table() + torch.zeros(1000)

@pytest.mark.limit_vram("8000 B"WARMUP)
def test_second():
    table() + torch.zeros(1000)
"""


def test_a_warmup_makes_limits_independent_of_order(project: Project) -> None:
    # zeros and sum are 4000 B each; the table that only the first test to run makes is 4000 B more
    orders = {"forth": ("first", "second"), "back": ("second", "first")}
    for name in orders:
        project.write(f"test_cold_{name}.py", CACHE.replace("WARMUP", ""))
        project.write(f"test_warm_{name}.py", CACHE.replace("WARMUP", ", warmup=1"))
    files = {f"test_{kind}_{name}.py": order for kind in ("cold", "warm") for name, order in orders.items()}
    text = project.run(*(f"{file}::test_{test}" for file, order in files.items() for test in order), code=1)
    for file, order in files.items():
        assert f"{'FAILED' if 'cold' in file else 'PASSED'} {file}::test_{order[0]}" in text
        assert f"PASSED {file}::test_{order[1]}" in text


_CASES = """
import unittest
import pytest
import torch

runs = []

@pytest.mark.limit_vram("4000 B", warmup=1)
class TestCase(unittest.TestCase):
    def test_fails(self):
        runs.append(1)
        self.assertEqual(len(runs), 0)

    def test_is_skipped(self):
        self.skipTest("on purpose")

    @unittest.expectedFailure
    def test_is_expected_to_fail(self):
        self.fail()

    def test_passes(self):
        torch.zeros(1000)
        assert len(runs) == 1  # the failed warm-up was the only run
"""


def test_a_case_that_fails_in_its_warmup_ends_once(project: Project) -> None:
    project.write("test_cases.py", _CASES)
    text = project.run(code=1)
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in text
    assert "AssertionError: 1 != 0" in text


_THREADS = """
import threading
import pytest
import torch

def hidden():
    torch.zeros(1000)

@pytest.mark.limit_vram("3999 B")
def test_on_its_own_thread(): ...

@pytest.mark.limit_vram("3999 B")
def test_on_another_thread():
    thread = threading.Thread(target=hidden, name="loader")
    thread.start()
    thread.join()

def test_nobody_asks():
    threading.Thread(target=hidden).start()
"""
_NAMES = """
import pytest, torch

@pytest.mark.parametrize("x", [1], ids=["</script><script>alert(1)</script>"])
def test_name(x):
    model = torch.nn.Module()
    model.add_module("</td><img src=x>\\u202e", torch.nn.Linear(2, 2))
    list(model.children())[0](torch.ones(1, 2))
"""
_PROFILERS = """
import pytest, torch, vramscope

@pytest.fixture
def profiler():
    with torch.profiler.profile():
        yield

def test_free(profiler): ...

@pytest.mark.limit_vram("1 MiB")
def test_limited(profiler): ...

def test_nothing(): ...

@pytest.mark.limit_vram("1 MiB")
def test_block(vramscope):
    with vramscope.profile("no model"):
        pass

@pytest.mark.limit_vram("1 MiB")
def test_function():
    with vramscope.profile():
        pass

@pytest.mark.limit_vram("1 MiB", device="cuda:99")
def test_device(): ...
"""
_CLOSEST = """
import pytest, torch

pytestmark = pytest.mark.limit_vram("1 B")

@pytest.mark.limit_vram("3999 B")
@pytest.mark.parametrize("own", [pytest.param(1, marks=pytest.mark.limit_vram("4000 B")), 0])
def test_closest(own):
    torch.zeros(1000)
"""
_DOUBTS = """
import pytest, torch
from torch import nn

@pytest.mark.limit_vram("3999 B", category="parameters")
def test_doubtful():
    (nn.Linear(100, 10).weight * 2).sum().backward()

@pytest.mark.limit_vram("3999 B", category="activations")
def test_certain():
    nn.Linear(100, 9)(torch.ones(100, 100)).sum().backward()
"""
ODDITIES = {"doubts": _DOUBTS, "threads": _THREADS, "names": _NAMES, "profilers": _PROFILERS, "closest": _CLOSEST}


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for name, text in ODDITIES.items():
        (folder / f"test_{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def odd_printed() -> list[str]:
    return []


@pytest.fixture
def odd_run(odd_folder: Path, project_in: Callable[[Path], Project], odd_printed: list[str]) -> str:
    """Tests that are odd each in its own way, in one run."""
    if not odd_printed:
        options = ("--vramscope", "--vramscope-json", "out.json", "--vramscope-report", "report")
        odd_printed.append(project_in(odd_folder).run(*options, code=1))
    return odd_printed[0]


def test_hostile_names_are_text(odd_run: str, odd_folder: Path) -> None:
    page = (odd_folder / "report" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;/script&gt;" in page


def test_what_cannot_be_measured_fails_only_where_a_limit_hangs_on_it(odd_run: str, odd_folder: Path) -> None:
    found = outcomes(odd_run)
    assert [found[f"test_{name}"] for name in ("free", "limited", "nothing")] == ["PASSED", "FAILED", "PASSED"]
    assert "vramscope cannot measure this test" in odd_run
    assert figures(odd_folder / "out.json")["test_nothing"]["peak_bytes"] == 0


def test_a_failure_to_measure_is_shown_without_the_error_behind_it(odd_run: str) -> None:
    shown = odd_run.partition("_ test_device _")[2].partition("\n___")[0]
    assert "vramscope cannot measure this test: device='cuda:99': " in shown
    assert "During handling of the above exception" not in shown


def test_a_block_that_cannot_be_profiled_says_why(odd_run: str) -> None:
    assert outcomes(odd_run)["test_block"] == "FAILED"
    assert "takes an nn.Module, not str" in odd_run


def test_a_profile_inside_a_measured_test_is_told_of_the_fixture(odd_run: str) -> None:
    assert outcomes(odd_run)["test_function"] == "FAILED"
    assert "is measuring this test, use the `vramscope` fixture's profile() instead" in odd_run


def test_tensors_of_other_threads_are_said_to_be_unseen(odd_run: str) -> None:
    assert odd_run.count("tensors made there are not counted") == 1
    assert "the test started a thread (loader)" in odd_run
    assert outcomes(odd_run)["test_on_another_thread"] == "PASSED"


def test_a_category_limit_that_may_be_passed_unseen_is_said_to_be_doubtful(odd_run: str) -> None:
    assert odd_run.count("may be passed unseen") == 1
    assert (
        "the limit of 3.9 KiB (3,999 B) on parameters may be passed unseen: of parameters the test held 0 B" in odd_run
    )
    found = outcomes(odd_run)
    assert (found["test_doubtful"], found["test_certain"]) == ("PASSED", "PASSED")


def test_a_parameters_own_limit_counts_before_its_functions(odd_run: str) -> None:
    found = outcomes(odd_run)
    assert (found["test_closest[1]"], found["test_closest[0]"]) == ("PASSED", "FAILED")
    assert "1 B more than limit_vram allows: 3.9 KiB (3,999 B)" in odd_run
