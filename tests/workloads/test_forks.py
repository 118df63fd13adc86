"""Processes that a workload forks: nobody waits for them, and none of them goes on as one of ours."""

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
    ("fate", "code"),
    [("pass", 0), ("raise ValueError", 1), ("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1)],
)
def test_one_that_comes_out_is_ended_there(fate: str, code: int) -> None:
    assert python("-c", COMES_OUT.format(fate=fate)) == f"{code}\n"


def test_what_it_has_printed_goes_out() -> None:
    assert python("-c", COMES_OUT.format(fate="print('forked')")) == "forked\n0\n"


def test_a_failure_in_the_process_itself_goes_on() -> None:
    script = "from vramscope.workloads.forks import forks_ended\nwith forks_ended():\n    raise SystemExit(5)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 5


@pytest.mark.parametrize("command", ["compare TARGET --no-lines --no-host", "estimate TARGET --gpu t4-16gb"])
@pytest.mark.parametrize("factory", ["comes_back", "in_forward"])
def test_a_workload_that_forks_is_measured_once(tmp_path: Path, command: str, factory: str) -> None:
    (tmp_path / "forks.py").write_text(FACTORIES)
    arguments = [*command.replace("TARGET", f"forks.py:{factory}").split(), "--steps", "1"]
    assert python("-m", "vramscope", *arguments, cwd=tmp_path).count("Training needs") == 1
