"""What a whole run of tests found: brought in by reports, from workers' processes too, and written at its end."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vramscope.testing.settings import Settings

FIGURES = pytest.StashKey[dict[str, Any]]()
PROBLEM = "problem"
"""Among a test's figures: why its recording could not be kept."""
WORKER_PROBLEMS = "vramscope_problems"
"""Where a worker of xdist says what is wrong with the markers."""
_ATTRIBUTE = "vramscope"
"""Where a report carries a test's figures: plain JSON, so that it travels between processes."""


@dataclass
class Results:
    """Figures by test, as reports bring them in."""

    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    """What ends the run as wrong use: markers, as workers found them, and files that could not be written."""
    are_cut_short: bool = False
    """Whether pytest stopped before the last test, as ``-x`` has it."""


def attach_figures(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let the report of a test's call carry its figures."""
    if report.when == "call" and FIGURES in item.stash:
        setattr(report, _ATTRIBUTE, item.stash[FIGURES])


class Collector:
    """Takes in the reports of all processes."""

    def __init__(self, results: Results) -> None:
        """Puts what it hears into ``results``."""
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the figures; a rerun's replace the earlier ones."""
        facts = getattr(report, _ATTRIBUTE, None)
        if facts is None:
            return
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        figures = {key: value for key, value in facts.items() if key != PROBLEM}
        self._results.tests[report.nodeid] = {"outcome": outcome, **figures}
        if PROBLEM in facts:
            self._results.problems[facts[PROBLEM]] = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Hear from a worker of xdist what is wrong with the markers."""
        found = getattr(node, "workeroutput", {}).get(WORKER_PROBLEMS, ())
        self._results.problems.update(dict.fromkeys(found))


def write_files(settings: "Settings", results: Results) -> list[str]:
    """Write what was asked for; gives a line for each file.

    Raises:
        OutputError: one of them cannot be written.
    """
    from vramscope.testing.baseline import write_results

    lines = []
    if settings.json_path is not None:
        write_results(results.tests, settings.json_path)
        lines.append(f"vramscope wrote {settings.json_path}")
    if settings.save_path is not None:
        lines.append(_save_baseline(settings.save_path, results))
    if settings.report_folder is not None:
        from vramscope.views.testing.page import write_index

        lines.append(f"vramscope wrote {write_index(results.tests, settings.report_folder)}")
    return lines


def _save_baseline(path: Path, results: Results) -> str:
    """Only of a run that came to its end: a test that is not in a baseline may grow, and an empty one is refused."""
    from vramscope.testing.baseline import write_results

    passed = {name: facts for name, facts in results.tests.items() if facts["outcome"] == "passed"}
    if results.are_cut_short:
        return f"vramscope did not write {path}: the run was cut short"
    if not passed:
        return f"vramscope did not write {path}: no test passed"
    write_results(passed, path)
    return f"vramscope wrote {path}"
