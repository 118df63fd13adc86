"""Runs of pytest with the plugin, each in a process of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_PATIENCE_SECONDS = 300
_COMMON = ("-p", "no:cacheprovider", "--no-header", "-rA")


@dataclass(frozen=True)
class Project:
    """A folder with tests, in which pytest is run."""

    path: Path
    pytester: pytest.Pytester
    environment: pytest.MonkeyPatch

    def write(self, name: str, text: str) -> None:
        """Put a file there."""
        (self.path / name).write_text(text)

    def run(self, *arguments: str, code: int | None = None) -> str:
        """What a run prints; its exit code is checked where one is given."""
        self.environment.chdir(self.path)
        return _text(self.pytester.runpytest_subprocess(*_COMMON, *arguments, timeout=_PATIENCE_SECONDS), code)

    def run_here(self, *arguments: str, code: int) -> str:
        """The same in this process, which is quicker: for runs that are refused before a test, and so load no torch."""
        self.environment.chdir(self.path)
        return _text(self.pytester.runpytest_inprocess(*_COMMON, *arguments), code)


def _text(finished: pytest.RunResult, code: int | None) -> str:
    text = "\n".join([*finished.outlines, *finished.errlines])
    assert code is None or finished.ret == code, text
    return text


def outcomes(text: str) -> dict[str, str]:
    """The outcome of every test in a run's short summary, by the test's name."""
    words = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
    lines = [line.split() for line in text.splitlines() if line.split(" ")[0] in words]
    return {line[1].partition("::")[2]: line[0] for line in lines if len(line) > 1}


def figures(path: Path) -> dict[str, dict[str, Any]]:
    """The figures in a JSON file of the plugin's, by the test's name."""
    return {test["test"].partition("::")[2]: test for test in json.loads(path.read_text())["tests"]}
