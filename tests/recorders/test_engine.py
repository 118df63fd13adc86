"""Whose thread it is: the one that is watched, one of Python's, or one of autograd's that works for it."""

import _thread
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest
import torch

from vramscope.recorders.engine import EngineThreads

TASK = 7


def on_a_thread_of_pythons(ask: Callable[[], bool]) -> bool:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


def on_another_thread(*asks: Callable[[], bool]) -> list[bool]:
    """On a thread that the module threading has not made, as autograd's are not."""
    answers: SimpleQueue[list[bool]] = SimpleQueue()
    _thread.start_new_thread(lambda: answers.put([ask() for ask in asks]), ())
    return answers.get(timeout=30)


def test_the_thread_itself_works_for_itself() -> None:
    threads = EngineThreads()
    assert threads.is_own() and threads.works_for_own()


def test_an_engines_thread_works_for_it_while_a_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = EngineThreads()
    assert on_another_thread(threads.is_own, threads.works_for_own) == [False, False]
    monkeypatch.setattr(torch._C, "_current_graph_task_id", lambda: TASK)
    assert on_another_thread(threads.is_own, threads.works_for_own, threads.works_for_own) == [False, True, True]


def test_threads_of_pythons_have_passes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = EngineThreads()
    monkeypatch.setattr(torch._C, "_current_graph_task_id", lambda: TASK)
    assert not on_a_thread_of_pythons(threads.works_for_own)


def test_one_thread_of_the_engines_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several GPUs work at once, their hooks could interleave."""
    threads = EngineThreads()
    monkeypatch.setattr(torch._C, "_current_graph_task_id", lambda: TASK)
    begun, done = threading.Event(), threading.Event()
    answers: SimpleQueue[bool] = SimpleQueue()

    def first() -> None:
        answers.put(threads.works_for_own())
        begun.set()
        done.wait(30)

    _thread.start_new_thread(first, ())
    assert begun.wait(30)
    try:
        assert answers.get(timeout=30)
        assert on_another_thread(threads.works_for_own) == [False]
    finally:
        done.set()
