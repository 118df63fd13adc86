"""Runs the command line as a user does: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def vramscope(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished process of ``vramscope ARGUMENTS``."""
    return subprocess.run(
        [sys.executable, "-m", "vramscope", *arguments],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def code_without_reader(*arguments: str, cwd: Path) -> int:
    """The exit code of ``vramscope ARGUMENTS`` where nobody reads what it prints, which it does not complain of."""
    read, write = os.pipe()
    os.close(read)  # whatever is printed breaks
    command = [sys.executable, "-m", "vramscope", *arguments]
    try:
        finished = subprocess.run(command, cwd=cwd, stdout=write, stderr=subprocess.PIPE, timeout=300, check=False)
    finally:
        os.close(write)
    assert finished.stderr == b""
    return finished.returncode


def json_of(*arguments: str, cwd: Path) -> Any:
    """The document that a command prints with ``--json -``."""
    finished = vramscope(*arguments, "--json", "-", cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def refused(*arguments: str, cwd: Path, code: int = 2) -> str:
    """The one line that a refused command prints."""
    finished = vramscope(*arguments, cwd=cwd)
    assert finished.returncode == code, finished.stderr
    assert finished.stdout == ""
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return lines[0]
