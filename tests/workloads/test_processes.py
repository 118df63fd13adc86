"""Processes of our own: what they print, where their replies go, and what is said when they die."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.processes import python

from vramscope.workloads.processes import ProcessDiedError, PythonProcess

ANSWERS = """
import os, subprocess, sys, time
from vramscope.workloads.processes import begin_child
replies = os.fdopen(begin_child(), "w")
print("to standard output")
print("€" * 300_000, file=sys.stderr)
if "leaves" in sys.argv:
    nowhere = subprocess.DEVNULL
    sys.argv.insert(1, str(subprocess.Popen(["sleep", "60"], stdout=nowhere, stderr=nowhere, close_fds=False).pid))
if "forks" in sys.argv and (forked := os.fork()):
    sys.argv.insert(1, str(forked))
elif "forks" in sys.argv:
    replies.write("of the forked one")
    replies.flush()
    time.sleep(60)
print("last words", file=sys.stderr)
replies.write(" ".join(sys.argv[1:-1]))
replies.close()
if "dies" in sys.argv:
    os._exit(7)
if "waits" in sys.argv:
    sys.stdin.read()
"""
PARENT = """
import json, sys
from vramscope.workloads.processes import PythonProcess
process = PythonProcess("answers", *sys.argv[1:], echo=True)
print(json.dumps(process.replies.read().decode()))
process.close()
"""


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that processes find."""
    (tmp_path / "answers.py").write_text(ANSWERS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    return tmp_path


def test_replies_have_a_pipe_of_their_own_and_all_else_is_printed(answers: Path) -> None:
    (answers / "sitecustomize.py").write_text("print('at the very start')", encoding="utf-8")
    command = [sys.executable, "-c", PARENT, "one", "waits"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = finished.stdout.splitlines()
    assert json.loads(said[-1]) == "one waits"
    lines = finished.stderr.splitlines()  # although the process was ended while it waited
    assert lines == ["at the very start", "to standard output", "€" * 300_000, "last words"]


def test_what_a_workload_leaves_running_keeps_nobody_waiting(answers: Path) -> None:
    process = PythonProcess("answers", "leaves", "dies")
    pid, *words = process.replies.read().split()  # ends although that program is running
    left = psutil.Process(int(pid))
    assert words == [b"leaves", b"dies"]
    assert left.status() != psutil.STATUS_ZOMBIE
    left.kill()
    process.close()


def test_what_a_workload_forks_has_no_pipe_to_reply_on(answers: Path) -> None:
    process = PythonProcess("answers", "forks", "dies")
    pid, *words = process.replies.read().split()  # ends although the forked one is running
    forked = psutil.Process(int(pid))
    assert words == [b"forks", b"dies"]
    assert forked.status() != psutil.STATUS_ZOMBIE
    forked.kill()
    process.close()


def test_what_is_not_passed_on_is_not_kept_but_for_the_last_words(answers: Path, capfd) -> None:
    process = PythonProcess("answers", "dies")
    error = process.death("the work", remedy="rest")
    process.close()
    assert str(error) == "the work ended with exit code 7: last words"
    assert capfd.readouterr() == ("", "")
    assert len(process._tail) <= 4096


def test_one_that_is_killed_says_what_to_do(answers: Path) -> None:
    process = PythonProcess("answers", "waits")
    process.end()
    error = process.death("the work", remedy="rest")
    process.close()
    assert isinstance(error, ProcessDiedError)
    assert str(error) == "the work was killed (signal 9): most likely the system ran out of memory; rest"


def test_files_of_the_working_directory_stand_in_for_nothing(answers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "signal.py").write_text("raise SystemExit('the wrong signal')", encoding="utf-8")
    assert json.loads(python("-P", "-c", PARENT, "two", cwd=folder).splitlines()[-1]) == "two"
