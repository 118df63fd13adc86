"""Runs of pytest with the plugin, in processes of their own."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

_IS_INSTALLED = any(entry.value == "vramscope.pytest_plugin" for entry in entry_points(group="pytest11"))
PLUGIN = () if _IS_INSTALLED else ("-p", "vramscope.pytest_plugin")
"""How to load the plugin where this checkout's metadata do not say it yet."""


def run_pytest(folder: Path, *arguments: str, code: int | None = None, **environment: str) -> str:
    """What a run prints; its exit code is checked where one is given."""
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "--no-header", "-rA", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "PYTEST_ADDOPTS": "", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert code is None or finished.returncode == code, finished.stdout
    return finished.stdout


def outcomes(text: str) -> dict[str, str]:
    """The outcome of every test in a run's short summary, by the test's name."""
    words = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
    lines = [line.split() for line in text.splitlines() if line.split(" ")[0] in words]
    return {line[1].partition("::")[2]: line[0] for line in lines if len(line) > 1}


def figures(path: Path) -> dict[str, dict[str, Any]]:
    """The figures in a JSON file of the plugin's, by the test's name."""
    return {test["test"].partition("::")[2]: test for test in json.loads(path.read_text())["tests"]}
