"""Which threads are noticed, and that nothing of the watch stays behind."""

import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from vramscope.testing.threads import ThreadWatch


@pytest.fixture(autouse=True)
def no_profile_function() -> Iterator[None]:
    before = threading.getprofile()
    threading.setprofile(None)
    yield
    threading.setprofile(before)


def run_thread(name: str) -> list[object]:
    """A thread from start to end; gives the profile function that was in force in it."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(sys.getprofile()), name=name)
    thread.start()
    thread.join()
    return found


def test_threads_that_start_meanwhile_are_named() -> None:
    watch = ThreadWatch()
    run_thread("before")
    watch.start()
    run_thread("one")
    watch.start()  # going on changes nothing
    run_thread("two")
    watch.stop()
    run_thread("after")
    assert watch.started == ("one", "two")


def test_a_progress_bars_own_thread_is_passed_over() -> None:
    monitor = pytest.importorskip("tqdm._monitor")
    watch = ThreadWatch()
    watch.start()
    thread = monitor.TMonitor(pytest.importorskip("tqdm").tqdm, sleep_interval=0.01)
    thread.exit()
    watch.stop()
    assert watch.started == ()


def test_a_thread_runs_without_a_profile_function() -> None:
    watch = ThreadWatch()
    watch.start()
    assert run_thread("one") == [None]
    watch.stop()
    assert threading.getprofile() is None


def test_a_profile_function_of_the_program_is_left_in_force() -> None:
    def own(frame: FrameType, event: str, argument: object) -> None: ...

    threading.setprofile(own)
    watch = ThreadWatch()
    watch.start()
    assert run_thread("one") == [own]
    watch.stop()
    assert threading.getprofile() is own


def test_one_that_was_set_meanwhile_stays() -> None:
    def own(frame: FrameType, event: str, argument: object) -> None: ...

    watch = ThreadWatch()
    watch.start()
    threading.setprofile(own)
    watch.stop()
    assert threading.getprofile() is own
