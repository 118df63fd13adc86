"""How commands end when they are told to, or when their terminal goes: in order, and with nothing left behind."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.processes import unmeasured

SLOW = """
import os, time
import torch
from vramscope import Workload
def build(batch=1):
    os.open("begun", os.O_CREAT)
    while not os.path.exists("go on"):
        time.sleep(0.01)
    return Workload(torch.nn.Linear(4, 4), torch.empty(batch, 4))
"""
COMPARE = "compare slow.py:build --no-lines --no-host --steps 1"
COMMANDS = [COMPARE, "estimate slow.py:build --gpu t4-16gb", "fit slow.py:build --vram 1GiB"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    return tmp_path


def arguments_of(command: str) -> list[str]:
    return [sys.executable, "-m", "vramscope", *command.split()]


def surroundings(folder: Path) -> dict[str, str]:
    return {**unmeasured(), "TMPDIR": str(folder / "temporary"), "NO_COLOR": "1", "TERM": "xterm"}


def wait_until_begun(folder: Path, process: psutil.Process) -> list[psutil.Process]:
    """Wait until the workload is being built; the processes that the command has started."""
    while not (folder / "begun").exists():
        with suppress(psutil.TimeoutExpired):
            raise AssertionError(f"it ended early, with {process.wait(0.01)}")
    return process.children(recursive=True)


def left_in(folder: Path) -> Iterator[str]:
    """What is left of ours among temporary files; torch keeps a cache there."""
    return (path.name for path in (folder / "temporary").iterdir() if "vramscope" in path.name)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_leaves_no_process_and_no_file(folder: Path, command: str, number: int) -> None:
    with subprocess.Popen(arguments_of(command), cwd=folder, env=surroundings(folder)) as process:
        started = wait_until_begun(folder, psutil.Process(process.pid))
        process.send_signal(number)
        process.send_signal(number)  # the shell passes on what the terminal has sent already
        assert process.wait(60) == 128 + number
    assert not psutil.wait_procs(started, 60)[1]
    assert list(left_in(folder)) == []


def test_a_terminal_that_goes_ends_it_as_well(folder: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, arguments_of(COMPARE), surroundings(folder))
    started = wait_until_begun(folder, psutil.Process(pid))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert not psutil.wait_procs(started, 60)[1]
    assert list(left_in(folder)) == []


def test_what_nohup_runs_goes_on(folder: Path) -> None:
    command = ["nohup", *arguments_of(COMPARE), "-o", "out"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=surroundings(folder), **pipes) as process:
        wait_until_begun(folder, psutil.Process(process.pid))
        process.send_signal(signal.SIGHUP)
        (folder / "go on").touch()
        assert process.wait(60) == 0
    assert (folder / "out" / "compare.json").exists()


FORKS = """
import multiprocessing, signal, time
import torch
from torch import nn
from vramscope import Workload

CONTEXT = multiprocessing.get_context("fork")

def work(begun):
    begun.set()
    time.sleep(60)

class Forks(nn.Linear):
    def forward(self, x):
        begun = CONTEXT.Event()
        process = CONTEXT.Process(target=work, args=(begun,))
        process.start()
        begun.wait()
        process.terminate()  # as a pool does with its processes
        process.join()
        assert process.exitcode == -signal.SIGTERM
        return super().forward(x)

def build(batch=1):
    return Workload(Forks(4, 4), torch.ones(batch, 4))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_workload_forks_ends_as_ever(folder: Path, command: str) -> None:
    (folder / "forks.py").write_text(FORKS, encoding="utf-8")
    arguments = [*arguments_of(command.replace("slow", "forks")), *([] if "--steps" in command else ["--steps", "1"])]
    finished = subprocess.run(
        arguments, cwd=folder, env=surroundings(folder), capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
