"""Processes that a workload forks: nobody waits for them, and none of them goes on as one of ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.processes import python

COMES_OUT = """
import os, sys
from vramscope.workloads.forks import forks_ended
with forks_ended():
    forked = os.fork()
    if not forked:
        {fate}
print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))
"""
FACTORIES = """
import os
import torch
from torch import nn
from vramscope import Workload

class Forks(nn.Linear):
    def forward(self, x):
        fork()
        return super().forward(x)

def fork():
    forked = os.fork()
    if forked:  # it ends only if it is ended where it comes out of the workload
        print(os.getpid(), "waits for its fork")
        assert os.waitpid(forked, 0)[1] == 0

def comes_back():
    fork()
    return Workload(nn.Linear(4, 4), torch.ones(2, 4))

def in_forward():
    return Workload(Forks(4, 4), torch.ones(2, 4))
"""


@pytest.mark.parametrize(
    ("fate", "code", "words"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit('no')", 1, "no\n"),
        (
            "raise ValueError(1)",
            1,
            'Traceback (most recent call last):\n  File "<string>", line 7, in <module>\nValueError: 1\n',
        ),
    ],
)
def test_one_that_comes_out_is_ended_there_as_python_would(fate: str, code: int, words: str) -> None:
    arguments = [sys.executable, "-c", COMES_OUT.format(fate=fate)]
    finished = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=True)
    assert (finished.stdout, finished.stderr) == (f"{code}\n", words)


def test_what_it_has_printed_goes_out() -> None:
    assert python("-c", COMES_OUT.format(fate="print('forked')")) == "forked\n0\n"


def test_a_failure_in_the_process_itself_goes_on() -> None:
    script = "from vramscope.workloads.forks import forks_ended\nwith forks_ended():\n    raise SystemExit(5)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 5


EXITS = """
import os, sys
import torch
from torch import nn
from vramscope import Workload

def fork():
    forked = os.fork()
    if not forked:
        {fate}
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == {expected}

def build():
    {factory}
    return Workload(nn.Linear(4, 4), torch.ones(2, 4), optimizer=optimizer)

def optimizer(model):
    {optimizer}
    return torch.optim.SGD(model.parameters())

{module}
"""


@pytest.mark.parametrize("where", ["module", "factory", "optimizer"])
@pytest.mark.parametrize(
    ("fate", "expected", "words"),
    [("sys.exit(5)", 5, ""), ("sys.exit('why')", 1, "why\n"), ("raise KeyError(1)", 1, None)],
)
def test_its_exit_is_its_own_wherever_it_was_forked(
    tmp_path: Path, where: str, fate: str, expected: int, words: str | None
) -> None:
    places = dict.fromkeys(("module", "factory", "optimizer"), "pass") | {where: "fork()"}
    (tmp_path / "exits.py").write_text(EXITS.format(fate=fate, expected=expected, **places))
    script = (
        "from vramscope.workloads.targets import resolve\n"
        "from vramscope.workloads.workload import WorkloadOptions\n"
        "resolve('exits.py:build').prepare(WorkloadOptions()).build_optimizers()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    if words is not None:
        assert finished.stderr == words
    else:  # from the first line of the user's on
        assert re.match(
            r'Traceback \(most recent call last\):\n  File "[^"]*exits\.py", .*\nKeyError: 1\n$', finished.stderr, re.S
        )


@pytest.mark.parametrize("command", ["compare TARGET --no-lines --no-host", "estimate TARGET --gpu t4-16gb"])
@pytest.mark.parametrize("factory", ["comes_back", "in_forward"])
def test_a_workload_that_forks_is_measured_once(tmp_path: Path, command: str, factory: str) -> None:
    (tmp_path / "forks.py").write_text(FACTORIES)
    arguments = [*command.replace("TARGET", f"forks.py:{factory}").split(), "--steps", "1"]
    assert python("-m", "vramscope", *arguments, cwd=tmp_path).count("Training needs") == 1
