"""Threads that work for the one that is recorded. Autograd has some of its own only on a GPU: tests/gpu has those."""

from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from typing import ClassVar

import torch

from vramscope.recorders.autograd_threads import works_for


def test_a_thread_works_for_itself_and_not_for_another():
    own = get_ident()
    assert works_for(own)
    with ThreadPoolExecutor(1) as other:
        assert not other.submit(works_for, own).result()


def test_a_backward_pass_on_one_thread_is_not_anothers():
    own, found = get_ident(), []
    weight = torch.ones(2, requires_grad=True)
    weight.register_hook(lambda gradient: found.append((works_for(own), works_for(get_ident()))))
    with ThreadPoolExecutor(1) as other:
        other.submit(weight.sum().backward).result()
        weight.sum().backward()
    assert found == [(False, True), (True, True)]


class Nested(torch.autograd.Function):
    """Has its gradient looked at by another thread, while its own waits for a backward pass."""

    found: ClassVar[list[bool]]

    @staticmethod
    def forward(ctx, given):
        return given.clone()

    @staticmethod
    def backward(ctx, gradient):
        asked, own = torch.ones(1, requires_grad=True), get_ident()
        Nested.found = []
        asked.register_hook(lambda gradient: Nested.found.append(works_for(own)))
        with torch.enable_grad(), ThreadPoolExecutor(1) as other:
            other.submit(asked.sum().backward).result()
        return gradient


def test_a_hook_on_another_thread_counts_while_the_pass_is_waited_for():
    Nested.apply(torch.ones(1, requires_grad=True)).sum().backward()
    assert Nested.found == [True]  # what autograd's threads of a GPU look like from there
