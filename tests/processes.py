"""Processes that tests start: what they find around them, and Python run to a good end."""

import os
import subprocess
import sys
from pathlib import Path


def unmeasured() -> dict[str, str]:
    """The environment without what has coverage measured: it traces every line, and writes files of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def python(*arguments: str | Path, cwd: Path | None = None) -> str:
    """What Python prints when it runs with these arguments, and ends well."""
    finished = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
