"""What a test's limits and the options of a run ask for together."""

from pathlib import Path
from typing import Any

import pytest

from vramscope.errors import UsageError
from vramscope.testing.baseline import write_results
from vramscope.testing.figures import TestFigures
from vramscope.testing.limits import LeakLimit, MemoryLimit
from vramscope.testing.plans import Plan
from vramscope.testing.settings import Settings, checked_settings

NOTHING = {
    "table": False,
    "top": "10",
    "json_path": None,
    "save_path": None,
    "report_folder": None,
    "compare_path": None,
    "fail_over": (),
    "default_limit": None,
}


def settings(**asked: Any) -> Settings:
    return checked_settings(**{**NOTHING, **asked})


def on(*devices: str) -> Plan:
    """Limits on devices, the last one on leaks."""
    return Plan(tuple(MemoryLimit(1, device=device) for device in devices[:-1]), (LeakLimit(1, device=devices[-1]),))


@pytest.mark.parametrize(
    ("plan", "device"),
    [
        (Plan(), "auto"),
        (on("cpu", "cpu"), "cpu"),
        (on("cpu", "auto"), "auto"),
        (on("cpu", "cuda:1"), "cuda:1"),  # the CPU is recorded beside it
        (on("cuda", "auto"), "cuda"),
    ],
)
def test_the_gpu_that_a_limit_names_is_recorded(plan: Plan, device: str) -> None:
    assert plan.device == device


def test_the_most_runs_before_are_those_that_any_limit_asks_for() -> None:
    assert Plan((MemoryLimit(1, warmup=1),), (LeakLimit(1, warmup=3),)).warmup == 3
    assert Plan().warmup == 0


def test_limits_of_either_kind_and_a_gate_are_judged() -> None:
    assert [Plan((MemoryLimit(1),)).is_judged, Plan(leaks=(LeakLimit(1),)).is_judged, Plan(gated=True).is_judged] == [
        True,
        True,
        True,
    ]
    assert not Plan().is_judged


def test_whatever_shows_or_judges_figures_measures_every_test(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    write_results({"test_a": TestFigures("cpu", 0, 0, {}, {}, {}, {"": 0, "a": 0}, {}).to_json()}, baseline)
    assert not settings().measures_all
    for asked in (
        {"table": True},
        {"json_path": tmp_path / "out.json"},
        {"save_path": tmp_path / "out.json"},
        {"report_folder": tmp_path / "report"},
        {"compare_path": baseline},
        {"default_limit": "1 MiB"},
    ):
        assert settings(**asked).measures_all
    assert settings(default_limit="1 MiB").default_limit_bytes == 2**20
    gated = settings(compare_path=baseline, fail_over=("5%", "module=a:0"), top="3")
    assert ([threshold.text for threshold in gated.thresholds], gated.top) == (["5%", "module=a:0"], 3)
    with pytest.raises(UsageError, match="module=b:0: no test of the baseline has that module"):
        settings(compare_path=baseline, fail_over=("module=b:0",))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"fail_over": ("5%",)}, "--vramscope-fail-over needs a baseline"),
        ({"top": "0"}, "--vramscope-top 0: give a number of tests, at least 1"),
        ({"top": "many"}, "--vramscope-top many: give a number"),
        ({"default_limit": "5 parsecs"}, "--vramscope-default-limit: "),
    ],
)
def test_what_a_run_cannot_be_asked(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        settings(**asked)
