"""Profiles where programs have them: beside one another, nested, in threads, in forked children, at the very end."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import vramscope
from vramscope.errors import UnsupportedError

FLOAT32 = 4
IS_OLD = torch.__version__.startswith("2.11.")
"""Whether this torch takes a profiler for running that is lost."""


def one_tensor() -> int:
    """Record one tensor of 1,000 numbers; the bytes that the recording peaked at."""
    with vramscope.profile() as profile:
        torch.ones(1000)
    assert profile.summary.allocator.max_disagreement_bytes == 0
    return profile.summary.peak.bytes


def test_a_profile_inside_another_is_refused_and_the_outer_one_goes_on() -> None:
    with vramscope.profile() as outer:
        first = torch.ones(1000)
        with pytest.raises(UnsupportedError), vramscope.profile():
            pass
        second = torch.ones(500)
    del first, second
    assert outer.summary.peak.bytes == 1500 * FLOAT32


def test_a_profile_in_another_thread() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(one_tensor()))
    thread.start()
    thread.join()
    assert found == [1000 * FLOAT32]


def test_a_profile_left_on_another_thread_says_so_and_the_next_one_does_not_crash() -> None:
    code = """
import threading, torch, vramscope
from vramscope.errors import RecordingError, UnsupportedError, UsageError
profile = vramscope.profile()
entered, left = threading.Event(), threading.Event()
def enter():
    profile.__enter__()
    entered.set()
    left.wait()
thread = threading.Thread(target=enter, daemon=True)
thread.start()
entered.wait()
try:
    profile.__exit__(None, None, None)
except UsageError as error:
    print(error)
left.set()
thread.join()
try:
    profile.__exit__(None, None, None)
except RecordingError as error:
    print(error)
try:
    with vramscope.profile() as profile: torch.ones(1000)
    print(profile.summary.peak.bytes)
except UnsupportedError as error:  # torch 2.11
    print(error)
"""
    refused, lost, after = python(code).splitlines()
    assert "on the thread on which it began" in refused  # it could be left there
    assert "left on another thread" in lost  # that thread is no more
    assert "profile in a new process" in after if IS_OLD else after == "4000"


def test_profiles_of_two_threads_at_once_never_mix() -> None:
    outcomes: list[int | str] = []
    barrier = threading.Barrier(2)
    rounds = 20

    def attempt() -> None:
        for _ in range(rounds):
            barrier.wait()
            try:
                outcomes.append(one_tensor())
            except UnsupportedError as error:
                outcomes.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2 * rounds
    # either they came one after the other, or the second was told that another one is running
    assert {outcome for outcome in outcomes if isinstance(outcome, int)} == {1000 * FLOAT32}
    assert all("already running" in outcome for outcome in outcomes if isinstance(outcome, str))


def test_a_profile_is_refused_while_another_threads_profiler_runs() -> None:
    code = """
import threading, torch, vramscope
from vramscope.errors import UnsupportedError
def attempt():
    try:
        with vramscope.profile(): pass
    except UnsupportedError as error:
        print(error)
with torch.profiler.profile() as other:
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    torch.ones(9)
print(any(event.name == "aten::ones" for event in other.events()))
"""
    refusal, whole = python(code).splitlines()
    assert "already running" in refusal
    assert whole == "True"


def test_a_profile_is_refused_while_another_profiler_warms_up_but_not_while_it_waits() -> None:
    code = """
import torch, vramscope
from vramscope.errors import UnsupportedError
def attempt():
    try:
        with vramscope.profile() as profile: torch.ones(1000)
        return profile.summary.peak.bytes
    except UnsupportedError as error:
        return error
with torch.profiler.profile(schedule=torch.profiler.schedule(wait=1, warmup=1, active=1)) as other:
    print(attempt())
    other.step()
    print(attempt())
    other.step()
    torch.ones(9)
    other.step()
print(any(event.name == "aten::ones" for event in other.events()))
print(attempt())
"""
    waiting, warming, whole, after = python(code).splitlines()
    assert waiting == after == "4000"
    assert "already running" in warming
    assert whole == "True"


def test_profilers_with_a_schedule_that_do_not_run_are_in_nobodys_way() -> None:
    code = """
import torch, vramscope
def attempt():
    with vramscope.profile() as profile: torch.ones(1000)
    return profile.summary.peak.bytes
schedule = torch.profiler.schedule(wait=0, warmup=1, active=1)
only_made = torch.profiler.profile(schedule=schedule)
print(attempt())
stopped = torch.profiler.profile(schedule=schedule)
stopped.start()
stopped.step()
stopped.step()  # its next round warms up
stopped.stop()
print(attempt())
"""
    assert python(code).split() == ["4000", "4000"]


def test_looking_for_profilers_meets_any_object() -> None:
    code = """
import torch, vramscope
class Unhashable(type):
    def __eq__(cls, other): raise ValueError("not to be compared")
class Odd(metaclass=Unhashable): pass
class Half(torch.profiler.profile):
    def __init__(self): pass
class Sub(torch.profiler.profile): pass
class SubSub(Sub): pass
kept = Odd(), Half()
def attempt():
    with vramscope.profile() as profile: torch.ones(1000)
    return profile.summary.peak.bytes
print(attempt())
def collecting():
    schedule = torch.profiler.schedule(wait=1, warmup=1, active=1)
    with torch.profiler.profile(schedule=schedule, acc_events=True) as other:
        other.cycle = other
        for _ in range(4): other.step()
collecting()
print(attempt())
with SubSub(schedule=torch.profiler.schedule(wait=0, warmup=1, active=1)) as other:
    try:
        attempt()
    except vramscope.errors.UnsupportedError as error:
        print(error)
    other.step()
"""
    first, second, third = python(code).splitlines()
    assert first == second == "4000"
    assert "already running" in third


def test_a_profiler_that_warms_up_is_seen_after_another_one_has_ended() -> None:
    code = """
import torch, vramscope
from vramscope.errors import UnsupportedError
with torch.profiler.profile(schedule=torch.profiler.schedule(wait=1, warmup=1, active=1)) as other:
    with torch.profiler.profile(): torch.ones(9)
    other.step()
    try:
        with vramscope.profile(): pass
    except UnsupportedError as error:
        print(error)
    other.step()
    torch.ones(9)
    other.step()
print(any(event.name == "aten::ones" for event in other.events()))
"""
    refusal, whole = python(code).splitlines()
    assert "already running" in refusal
    assert whole == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_from_another_thread_profiles_for_itself() -> None:
    code = """
import multiprocessing, threading, torch, vramscope
from vramscope.errors import UnsupportedError
def attempt():
    try:
        with vramscope.profile() as profile: torch.ones(1000)
        print(profile.summary.peak.bytes, flush=True)
    except UnsupportedError as error:  # torch 2.11
        print(error, flush=True)
def fork():
    child = multiprocessing.get_context("fork").Process(target=attempt)
    child.start()
    child.join()
with vramscope.profile() as profile:
    kept = torch.ones(500)
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
print(profile.summary.peak.bytes)
"""
    child, parent = python(code).splitlines()
    assert "profile in a new process" in child if IS_OLD else child == "4000"
    assert parent == "2000"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_records_for_itself_and_leaves_the_parents_recording_alone() -> None:
    code = """
import os, torch, vramscope
with vramscope.profile() as profile:
    kept = torch.ones(1000)
    child = os.fork()
    if child == 0:
        more = torch.ones(77)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(profile.summary.peak.bytes)
"""
    assert python(code) == "4000"


def test_a_profile_that_is_never_left_ends_with_the_process() -> None:
    assert (
        python("import torch, vramscope; p = vramscope.profile(); p.__enter__(); torch.ones(9); print('end')") == "end"
    )


def test_a_profile_left_by_sys_exit() -> None:
    code = """
import sys, torch, vramscope
with vramscope.profile() as profile:
    torch.ones(9)
    sys.exit(0)
"""
    assert python(code) == ""


def test_a_generator_that_is_collected_inside_a_profile_ends_it_once() -> None:
    def steps():
        with vramscope.profile() as profile:
            yield profile

    running = steps()
    profile = next(running)
    torch.ones(1000)
    del running  # the collector leaves the block
    assert profile.summary.peak.bytes == 1000 * FLOAT32
    assert one_tensor() == 1000 * FLOAT32


def test_a_model_of_very_many_modules_with_very_long_names(tmp_path: Path) -> None:
    # 2,000 modules of names of 1,000 characters: two million characters of paths, and a nest 30 deep
    model = nn.Module()
    for number in range(2000):
        model.add_module(f"{number:04d}" + "n" * 996, nn.Identity())
    inner = model
    for number in range(30):
        inner.add_module("deep" * 20 + str(number), nn.Sequential())
        inner = getattr(inner, "deep" * 20 + str(number))
    with vramscope.profile(model) as profile:
        torch.ones(1000)
    profile.save(tmp_path / "wide.vram")
    assert vramscope.Ledger(vramscope.read_recording(tmp_path / "wide.vram")).peak().bytes == 1000 * FLOAT32


def python(code: str) -> str:
    """What a program prints that ends well, without a word of complaint."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout.strip()
