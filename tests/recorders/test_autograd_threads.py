"""Threads that work for the one that is recorded. Autograd has some of its own only on a GPU: tests/gpu has those."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import pytest
import torch

from vramscope.recorders.autograd_threads import works_for


def on_a_python_thread(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as other:
        other.submit(call).result()


def on_a_foreign_thread(call: Callable[[], object]) -> None:
    """On a thread that Python knows nothing of until it runs Python code, as autograd's are."""
    system, thread = ctypes.CDLL(None), ctypes.c_ulong()
    run = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda nothing: call() and None)
    assert system.pthread_create(ctypes.byref(thread), None, run, None) == 0
    assert system.pthread_join(thread, None) == 0


class Meanwhile(torch.autograd.Function):
    """Does something in its backward, while its thread waits for the pass."""

    @staticmethod
    def forward(ctx, given, call):
        ctx.call = call
        return given.clone()

    @staticmethod
    def backward(ctx, gradient):
        with torch.enable_grad():
            ctx.call()
        return gradient, None


def found_in_a_hook(of: int, start: Callable[[Callable[[], object]], None]) -> list[bool]:
    """What is found in a hook of a backward pass, on a thread that ``start`` starts."""
    weight, found = torch.ones(2, requires_grad=True), []
    weight.register_hook(lambda gradient: found.append(works_for(of)))

    def run() -> None:
        with torch.enable_grad():
            weight.sum().backward()

    start(run)
    return found


def test_a_thread_works_for_itself_and_not_for_another():
    own, found = get_ident(), []
    assert works_for(own)
    on_a_python_thread(lambda: found.append(works_for(own)))
    on_a_foreign_thread(lambda: found.append(works_for(own)))
    assert found == [False, False]


def test_a_pass_of_another_thread_is_not_ours():
    assert found_in_a_hook(get_ident(), on_a_python_thread) == [False]
    assert found_in_a_hook(get_ident(), on_a_foreign_thread) == [False]  # nobody waits for a pass


@pytest.mark.parametrize(("start", "works"), [(on_a_foreign_thread, True), (on_a_python_thread, False)])
def test_while_a_pass_is_waited_for_only_threads_that_python_did_not_start_work_for_it(start, works):
    own, found = get_ident(), []

    def meanwhile() -> None:
        found.extend(found_in_a_hook(own, start))

    Meanwhile.apply(torch.ones(1, requires_grad=True), meanwhile).sum().backward()
    assert found == [works]
