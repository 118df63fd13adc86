"""scripts/gpu_check without a GPU: the way it takes, and that one section's failure loses nothing of the others."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.processes import python

from vramscope.recorders.cuda.device import FROM_GROWTH, FROM_NVML

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check"


def test_a_section_runs_and_says_on_which_device(tmp_path: Path) -> None:
    printed = python(SCRIPT, tmp_path / "out", "--device", "cpu", "--only", "environment", "snapshot")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["device"], results["failed"]) == ("cpu", [])
    assert results["sections"]["environment"]["tool"] == "doctor"
    assert "cpu" in results["sections"]["snapshot"]["skipped"]
    assert printed.splitlines()[-1].startswith("all sections passed (cpu)")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_the_stand_in_needs_a_cuda_build() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gpu_standin"), "true"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 1
    assert finished.stderr.splitlines() == [
        f"gpu_standin: {sys.executable} has no CUDA 13 build of torch: run this script with a Python that has"
    ]


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "gpu"))
    from report import Report

    return Report(tmp_path, "cpu", time.monotonic() + 300)


def test_a_failing_section_loses_nothing_of_the_others(report: Any, tmp_path: Path) -> None:
    def breaks(report: Any, found: dict[str, Any]) -> None:
        found["before"] = 1
        raise ValueError("broken")

    report.run("first", breaks, 10)
    report.run("second", lambda report, found: found.update(fine=True), 10)
    report.run("third", lambda report, found: found.update(failures=["a sum"]), 10)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["failed"] == ["first", "third"]
    assert results["sections"]["first"]["before"] == 1
    assert "ValueError: broken" in results["sections"]["first"]["error"]
    assert results["sections"]["second"] == {"fine": True}
    assert report.close() == 1


def test_a_section_whose_time_is_over_stops_and_keeps_what_it_has(report: Any, tmp_path: Path) -> None:
    def slow(report: Any, found: dict[str, Any]) -> None:
        found["first"] = 1
        report.left()
        found["second"] = 2

    report.run("slow", slow, 0)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["sections"]["slow"]["first"] == 1
    assert "second" not in results["sections"]["slow"]
    assert "OverTime" in results["sections"]["slow"]["error"]


def test_what_one_section_leaves_of_the_time_is_for_those_after_it(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    report = type(report)(tmp_path, "cpu", 1300.0)

    def takes_no_time(report: Any, found: dict[str, Any]) -> None:
        given.append(report.left())

    report.run_all({"first": (takes_no_time, 100), "second": (takes_no_time, 20), "third": (takes_no_time, 30)})
    # of 300 seconds: 100 parts of 150, then 20 of 50, then all that is left
    assert given == [200, 120, 300]


def test_tests_that_run_over_keep_what_they_found(report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sections

    monkeypatch.setattr(sections, "ROOT_OF_TESTS", tmp_path)
    (tmp_path / "gpu").mkdir()
    lines = ["import time", "def test_wrong(): assert 1 + 1 == 3", "def test_endless(): time.sleep(600)"]
    (tmp_path / "gpu" / "test_it.py").write_text("\n".join(lines))
    report.run("tests", sections.tests, 10)
    assert any("assert (1 + 1) == 3" in line for line in report.sections["tests"]["failures"])
    assert "timed out" in report.sections["tests"]["summary"]
    assert "1 failed" in (tmp_path / "tests.txt").read_text()


def test_one_workloads_failure_stands_in_its_own_place(report: Any) -> None:
    report.run("none", lambda report, found: None, 10)
    found = report.in_parallel(lambda name: 1 // len(name.strip()), ["fine", " "], workers=2)
    assert found["fine"] == 0
    assert "ZeroDivisionError" in found[" "]["error"]


def test_a_command_that_runs_over_is_ended_with_its_children(report: Any, tmp_path: Path) -> None:
    child = f"import pathlib, time; pathlib.Path({str(tmp_path / 'ready')!r}).touch(); time.sleep(600)"
    nest = f"import subprocess, sys; print('so far', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"

    def hangs(report: Any, found: dict[str, Any]) -> None:
        report.command("-c", nest)

    report.run("hangs", hangs, 5)
    assert report.close() == 1
    assert "OverTime" in report.sections["hangs"]["error"]
    assert report.sections["hangs"]["printed"].startswith("so far\n")
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "ready") in " ".join(p.info["cmdline"] or [])]
    assert not [p for p in mine if p.status() != psutil.STATUS_ZOMBIE]


def test_a_process_apart_that_holds_the_output_open_holds_nothing_up(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import report as module

    monkeypatch.setattr(module, "LAST_WORDS_SECONDS", 1.0)
    child = f"import time; time.sleep(600)  # {tmp_path}"
    apart = f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    text = f"import subprocess, sys, time; print('so far', flush=True); {apart}; time.sleep(600)"
    report.run("apart", lambda report, found: report.command("-c", text), 3)
    assert report.sections["apart"]["printed"].startswith("so far\n")
    (left,) = (p for p in psutil.process_iter(["cmdline"]) if child in (p.info["cmdline"] or []))
    left.kill()  # it had not ended by itself


def test_measurements_without_predictions_say_so(report: Any) -> None:
    import predictions

    found: dict[str, Any] = {}
    predictions.measure(report, found)
    assert "nothing was predicted" in found["failures"][0]


@pytest.mark.parametrize(("method", "fails"), [(FROM_NVML, ["model, training"]), (FROM_GROWTH, [])])
def test_a_share_that_other_models_change_is_not_judged(report: Any, method: str, fails: list[str]) -> None:
    import sections

    report.device = "cuda"
    # 500 asked for in a block of 512, and 100 cached; 50 of another process went since the share began to be counted
    row = {
        "requested_by_category": {"parameters": 500},
        "allocator_requested_bytes": 500,
        "slack_bytes": 12,
        "allocated_bytes": 512,
        "small_pool_bytes": 512,
        "allocator_small_pool_bytes": 512,
        "pending_bytes": 0,
        "cached_bytes": 100,
        "reserved_bytes": 612,
        "process_bytes": 562,
        "used_bytes": 700,
        "free_bytes": 300,
        "driver_bytes": 0,
        "total_bytes": 1000,
        "method": method,
    }
    report.sections["models"] = {"models": {"model": {"training": {"devices": [{"reconciliation": row}]}}}}
    found: dict[str, Any] = {}
    sections.reconciliation(report, found)
    assert found["failures"] == fails


@pytest.fixture
def uninitialised_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore")  # of operators that are not deterministic
@pytest.mark.usefixtures("report", "uninitialised_memory_is_nan")
def test_operators_are_given_numbers_that_they_accept() -> None:
    import operators

    # what the CPU refuses in words, as numbers that are no probabilities, ends a GPU's process
    wrong: dict[str, str] = {}
    for name in operators.names():
        case, *others = name.split(", ")
        if others == ["7 x 13", "float32"]:
            try:
                operators.twice(*operators.prepared(name, "cpu"), lambda: None)
            except RuntimeError as error:
                wrong[case] = str(error)
    # of one volume the CPU's maximum takes no layout by channels; CUDA's does
    assert not {case: why for case, why in wrong.items() if "memory format" not in why}
