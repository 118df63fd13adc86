"""Processes that predict: the same figures as in one process, several at once, and none left behind."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

import psutil
import pytest
from tests.processes import python

from cli.command import vramscope
from vramscope.errors import TargetError
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import find_gpu
from vramscope.predict.remedies import Plan
from vramscope.predict.workers import Workers
from vramscope.workloads.processes import ProcessDiedError
from vramscope.workloads.workload import WorkloadOptions

GPU = find_gpu("rtx4090-24gb")
TALKING = """
import os, sys
from vramscope import Workload
import torch
print("built in a process")
print("nothing to read:", repr(sys.stdin.read()))
def build(batch=1):
    return Workload(torch.nn.Linear(4, 4), torch.empty(batch, 4))
"""
SLOW = """
import time
print("built", flush=True)
time.sleep(600)
"""


def plan(target: str, **options: Any) -> Plan:
    return Plan(target, WorkloadOptions(steps=1, **options), "training")


def are_running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "vramscope.predict.worker" in child.cmdline()]


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(2)))


def test_several_at_once_say_what_one_process_says(two_at_once):
    batches = [1, 2, 300, 4000, 5]
    with Workers("training") as workers:
        workers.predict(plan("mlp"), GPU)
        needs = workers.map(lambda batch: workers.predict(plan("mlp", batch=batch), GPU), batches)
        assert len(are_running()) == 2
    assert not are_running()
    for batch, need in zip(batches, needs, strict=True):
        options = WorkloadOptions(steps=1, batch=batch)
        use = gpu_use(predict_passes("mlp", options, GPU, ("training",))["training"], GPU)
        assert (need.allocated_bytes, need.reserved_bytes) == (use.allocated_bytes, use.reserved_bytes)


def test_an_error_is_the_workloads_own_and_ends_nothing(two_at_once):
    with Workers("training") as workers:
        with pytest.raises(TargetError, match="there_is_none") as error:
            workers.predict(plan("there_is_none"), GPU)
        assert "Traceback" in error.value.__notes__[0]
        assert workers.predict(plan("mlp"), GPU).allocated_bytes > 0


def test_one_that_dies_is_named_and_ends_all_that_is_asked_for_or_waits(two_at_once):
    def asked(target: str) -> int:
        if target == "mlp":
            for process in are_running():
                process.kill()
        return workers.predict(plan(target), GPU).allocated_bytes

    with Workers("training") as workers:
        workers.predict(plan("mlp"), GPU)
        died = r"the prediction of \w+ was killed \(signal 9\): most likely the system ran out of memory; run it where"
        with pytest.raises(ProcessDiedError, match=died):
            workers.map(asked, ["gpt2", "mlp", "gpt2", "resnet18", "gpt2"])
        assert not are_running()  # nobody has taken their place
    assert not are_running()


def test_the_first_failure_is_the_one_that_is_told(two_at_once, tmp_path):
    (tmp_path / "fails.py").write_text("import ctypes\nctypes.string_at(0)\n", encoding="utf-8")
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    with Workers("training") as workers:
        workers.predict(plan("mlp"), GPU)
        with pytest.raises(ProcessDiedError, match=r"fails\.py:build died of SIGSEGV"):
            workers.map(lambda name: workers.predict(plan(f"{tmp_path}/{name}:build"), GPU), ["slow.py", "fails.py"])


ORPHAN = """
import os, psutil
from vramscope.predict.workers import Workers
workers = Workers("training")
print(psutil.Process().children()[0].pid, flush=True)
os._exit(0)
"""


def test_one_whose_parent_is_gone_ends():
    pid = int(python("-c", ORPHAN))
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(60)
    assert not psutil.pid_exists(pid)


def test_what_the_workload_prints_comes_from_one_of_them(tmp_path):
    (tmp_path / "talking.py").write_text(TALKING, encoding="utf-8")
    arguments = ("talking.py:build", "--vram", "1GiB", "--pass", "inference", "--steps", "1", "--json", "-")
    finished = vramscope("fit", *arguments, cwd=tmp_path, PYTHONUNBUFFERED="")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("{")
    assert set(finished.stderr.splitlines()) == {"built in a process", "nothing to read: ''"}


REMEDIES = """
import time
from pathlib import Path
import torch
from vramscope import Workload
def build(batch=1):
    asked = Path(f"asked-for-{batch}")
    if asked.exists():  # the first size that does not fit is asked for again with each remedy
        print("a remedy", flush=True)
        time.sleep(600)
    asked.touch()
    return Workload(torch.nn.Linear(4096, 4096), torch.empty(batch, 4096))
"""


@pytest.mark.parametrize(("text", "words"), [(SLOW, "built"), (REMEDIES, "a remedy")], ids=["search", "remedies"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_them_all_with_one_word(tmp_path, text: str, words: str, number: int, code: int):
    (tmp_path / "slow.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "vramscope", "fit", "slow.py:build", "--vram", "2GiB", "--steps", "1"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"{words}\n"
            workers = psutil.Process(process.pid).children()
            os.killpg(process.pid, number)  # as a terminal does: the whole group
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stdout) == (code, "")
    assert set(stderr.split("\n")) <= {"", words, "vramscope: interrupted"}
    assert not any(worker.is_running() for worker in workers)
