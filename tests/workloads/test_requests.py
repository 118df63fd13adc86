"""Children that measure: started ahead, run in turn, and gone with whoever asked for them."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.processes import python

from vramscope.errors import TargetError, WorkloadError
from vramscope.recording.file import read_recording
from vramscope.workloads.requests import Child, Request, Role, children
from vramscope.workloads.workload import WorkloadOptions


def request(folder: Path, pass_name: str, target: str = "mlp") -> Request:
    options = WorkloadOptions(batch=2, device="cpu").to_json()
    return Request(target, pass_name, Role.EVENTS, options, folder / f"{target}-{pass_name}")


def are_running() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "vramscope.workloads.child" in child.cmdline()]


def test_each_child_runs_its_request_in_turn(tmp_path):
    said: list[str] = []
    with children([request(tmp_path, "inference"), request(tmp_path, "training")]) as started:
        for child in started:
            assert not child.request.output.exists()  # though it was started long before
            child.run(said.append)
            assert read_recording(child.request.output).complete
    assert len(list(tmp_path.iterdir())) == 2
    assert said
    assert not are_running()


def test_one_that_fails_leaves_none_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    requests = [request(tmp_path, "inference", target) for target in ("there_is_none", "mlp", "mlp", "mlp", "mlp")]
    with pytest.raises(TargetError, match="there_is_none"), children(requests) as started:
        child = next(started)
        assert len(are_running()) == 1 + 3
        child.run(lambda text: None)
    assert not are_running()
    assert not list(tmp_path.iterdir())


def test_with_one_processor_none_is_started_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(1)))
    with children([request(tmp_path, "inference", target) for target in ("mlp", "gpt2")]) as started:
        for target in ("mlp", "gpt2"):
            child = next(started)
            assert child.request.target == target
            assert len(are_running()) == 1
            for process in are_running():
                process.kill()
                process.wait()
    assert not are_running()


def test_no_child_at_all():
    with children([]) as started:
        assert list(started) == []


ORPHAN = """
import json, os, psutil, sys
from vramscope.workloads.requests import Child, Request
child = Child(Request.from_json(json.loads(sys.argv[1])))
print(psutil.Process().children()[0].pid, flush=True)
os._exit(0)
"""


def test_a_child_whose_parent_is_gone_runs_nothing(tmp_path):
    asked = request(tmp_path, "inference")
    pid = int(python("-c", ORPHAN, json.dumps(asked.to_json())))
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(60)
    assert not psutil.pid_exists(pid)
    assert not asked.output.exists()


def test_a_child_that_dies_while_it_waits_is_named(tmp_path):
    with Child(request(tmp_path, "inference")) as child:
        (process,) = are_running()
        process.kill()
        while process.status() != psutil.STATUS_ZOMBIE:  # to wait for it would take its exit code from who needs it
            time.sleep(0.01)
        with pytest.raises(WorkloadError, match="inference pass of mlp was killed"):
            child.run(lambda text: None)
