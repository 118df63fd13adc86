"""The line of the user's code at which each block is born."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import Running, recording_of
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.lines import LineTracer

HERE = Path(__file__)
SOURCE = HERE.read_text(encoding="utf-8").splitlines()


def line_of(mark: str) -> int:
    """The number of the one line of this file that ends with ``# line: mark``."""
    (found,) = (number for number, text in enumerate(SOURCE, start=1) if text.endswith(f"# line: {mark}"))
    return found


def births(ledger: Ledger, elements: int) -> list[tuple[str, int]]:
    """(function, line) at which each block of so many floats was born, in order of birth."""
    blocks = ledger.blocks
    chosen = [row for row in blocks.birth.argsort() if blocks.size[row] == elements * 4 and blocks.birth[row] >= 0]
    return [place(ledger, int(blocks.birth_scope[row])) for row in chosen]


def place(ledger: Ledger, scope: int) -> tuple[str, int]:
    frame = int(ledger.lineage.frame[scope])
    if frame < 0:
        return ("", 0)
    file, _, function = ledger.recording.strings[ledger.recording.scopes.name[frame]].partition("|")
    assert file == str(HERE)
    return function.rpartition(".")[2], int(ledger.recording.scopes.value[frame])


def births_in(work: Callable[[], Any], elements: int) -> list[tuple[str, int]]:
    with recording_of(lines=True) as running:
        kept = work()
        running.finish()
    del kept
    return births(running.ledger, elements)


# Sizes that nothing else has: a block is recognized by its number of elements.
X = torch.ones(1237)
SMALL = torch.ones(7)


def test_an_operator_of_tensors():
    def work():
        first = X + X  # line: add
        return first * X  # line: mul

    assert births_in(work, 1237) == [("work", line_of("add")), ("work", line_of("mul"))]


def test_a_function_of_torch():
    def work():
        return functional.relu(X)  # line: relu

    assert births_in(work, 1237) == [("work", line_of("relu"))]


def test_a_call_that_goes_through_python_code_of_torch():
    def work():
        return torch.nn.utils.parameters_to_vector([X, SMALL])  # line: vector

    assert births_in(work, 1237 + 7) == [("work", line_of("vector"))]


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()  # line: inner


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.torch_module = nn.Sequential(nn.Sigmoid(), nn.Tanh())
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        x = self.torch_module(x)  # line: torch module
        x = self.inner(x)  # line: own module
        return x + 1  # line: after module


def test_modules():
    model = Outer()
    assert births_in(lambda: model(X), 1237) == [
        ("forward", line_of("torch module")),  # sigmoid
        ("forward", line_of("torch module")),  # tanh
        ("forward", line_of("inner")),  # the innermost line of the user's
        ("forward", line_of("after module")),
    ]


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x  # line: function forward

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * x  # line: function backward


def test_a_function_of_autograds():
    def work():
        x = X.detach().requires_grad_()
        y = Square.apply(x)
        gradient = torch.ones_like(y)  # line: root
        y.backward(gradient)
        return y, x.grad

    assert births_in(work, 1237) == [
        ("forward", line_of("function forward")),
        ("work", line_of("root")),
        ("backward", line_of("function backward")),
    ]


def test_a_backward_pass_happens_where_it_is_called():
    def work():
        x = X.detach().requires_grad_()
        y = x.exp().sum()  # line: exp
        y.backward()  # line: backward
        return x.grad

    # exp saves its result; its gradient is made in the backward pass
    assert births_in(work, 1237) == [("work", line_of("exp")), ("work", line_of("backward"))]


def test_comprehensions():
    def work():
        first = [X + number for number in range(2)]  # line: comprehension
        second = [
            X * factor  # line: element
            for factor in range(1)
        ]
        return first, second

    lines = [line for _, line in births_in(work, 1237)]
    assert lines == [line_of("comprehension")] * 2 + [line_of("element")]


def test_generators():
    def numbers():
        yield X + 1  # line: yielded
        yield X + 2  # line: yielded again

    def work():
        kept = []
        for tensor in numbers():
            kept.append(tensor * 3)  # line: consumed
        return kept

    assert [line for _, line in births_in(work, 1237)] == [
        line_of("yielded"),
        line_of("consumed"),
        line_of("yielded again"),
        line_of("consumed"),
    ]


def helper(x: Tensor) -> Tensor:
    return x.neg()  # line: helper


def test_a_line_goes_on_after_a_nested_call_has_returned():
    def work():
        return helper(X), X.abs(), helper(X)  # line: around

    assert births_in(work, 1237) == [
        ("helper", line_of("helper")),
        ("work", line_of("around")),
        ("helper", line_of("helper")),
    ]


def test_statements_over_several_lines():
    def work():
        return torch.stack(  # line: call
            [
                SMALL.repeat(3),  # line: first argument
                SMALL.neg().repeat(3),  # line: second argument
            ]
        )

    assert [line for _, line in births_in(work, 21)] == [line_of("first argument"), line_of("second argument")]
    assert [line for _, line in births_in(work, 42)] == [line_of("call")]


def test_after_an_exception():
    def fail():
        X.neg()
        raise ValueError("as planned")

    def work():
        try:
            fail()
        except ValueError:
            return X.exp()  # line: handler

    assert births_in(work, 1237)[-1] == ("work", line_of("handler"))


def test_recursion():
    def countdown(number: int) -> Tensor:
        if number == 0:
            return X + 1  # line: bottom
        below = countdown(number - 1)
        return below + number  # line: on the way back

    expected = [("countdown", line_of("bottom"))] + [("countdown", line_of("on the way back"))] * 3
    assert births_in(lambda: countdown(3), 1237) == expected


def test_a_lambda_and_a_callback_of_a_library():
    def work():
        return sorted([2, 1], key=lambda number: float((X + number)[0]))  # line: callback

    assert [line for _, line in births_in(work, 1237)] == [line_of("callback")] * 2


def test_frames_that_were_already_running():
    running = Running(__import__("vramscope.recorders.profiler", fromlist=["x"]).ProfilerRecorder(lines=True))
    kept = []

    def begin() -> None:
        running.recorder.start()
        kept.append(X + 1)  # line: same frame

    def around() -> None:
        begin()
        kept.append(X + 2)  # line: its caller

    try:
        around()
        kept.append(X + 3)  # line: the callers caller
        running.finish()
    finally:
        running.recorder.abandon()
    assert births(running.ledger, 1237) == [
        ("begin", line_of("same frame")),
        ("around", line_of("its caller")),
        ("test_frames_that_were_already_running", line_of("the callers caller")),
    ]


def test_the_first_line_of_a_frame_that_was_already_running():
    recorder = __import__("vramscope.recorders.profiler", fromlist=["x"]).ProfilerRecorder(lines=True)
    running = Running(recorder)
    try:
        kept = (recorder.start(), X + 1)  # line: same line
        running.finish()
    finally:
        recorder.abandon()
    assert kept[0] is None
    assert births(running.ledger, 1237) == [
        ("test_the_first_line_of_a_frame_that_was_already_running", line_of("same line"))
    ]


def test_lines_change_no_sum():
    def work():
        return Outer()(X).sum()

    with recording_of() as plain:
        work()
    with recording_of(lines=True) as traced:
        work()
    assert traced.recording.events.size.tolist() == plain.recording.events.size.tolist()
    assert traced.ledger.max_disagreement_bytes() == 0


def test_the_operator_and_module_of_an_event_stay_known():
    model = Outer()
    with recording_of(lines=True) as running:
        running.recorder.watch(model)
        kept = model(X)
        running.finish()
    ledger = running.ledger
    rows = [int(row) for row in ledger.blocks.birth if row >= 0]
    assert len(kept) == 1237
    assert {ledger.operator_at(row) for row in rows} >= {"aten::sigmoid", "aten::tanh", "aten::exp", "aten::add"}
    assert {ledger.module_at(row) for row in rows} == {"", "torch_module.0", "torch_module.1", "inner"}


def test_no_lines_unless_they_are_asked_for():
    with recording_of() as running:
        kept = X + 1
        running.finish()
    assert len(kept) == 1237
    assert births(running.ledger, 1237) == [("", 0)]


# -- tracing is given back --------------------------------------------------------------------------------------------


@pytest.fixture
def own_trace():
    """A trace function of the test's own; what was there before (coverage, a debugger) comes back afterwards."""

    def trace(frame: Any, event: str, argument: Any) -> Any:
        return trace

    before, frame = sys.gettrace(), sys._getframe()
    sys.settrace(trace)
    yield trace
    sys.settrace(before)
    frame.f_trace = None


def test_the_trace_function_comes_back_after_a_recording(own_trace):
    with recording_of(lines=True):
        pass
    assert sys.gettrace() is own_trace


def test_the_trace_function_comes_back_after_an_error(own_trace):
    with pytest.raises(KeyboardInterrupt), recording_of(lines=True):
        raise KeyboardInterrupt
    assert sys.gettrace() is own_trace


def test_the_trace_function_of_running_frames_comes_back(own_trace):
    frame = sys._getframe()
    frame.f_trace = own_trace
    try:
        with recording_of(lines=True):
            pass
        assert frame.f_trace is own_trace
    finally:
        frame.f_trace = None


def test_stopping_twice_does_no_harm(own_trace):
    tracer = LineTracer()
    tracer.start()
    tracer.stop()
    tracer.stop()
    assert sys.gettrace() is own_trace


def test_nothing_of_the_traced_frames_is_kept():
    tracer = LineTracer()
    tracer.start()
    helper(X)
    tracer.stop()
    assert tracer._running == []
    assert tracer._stack == []
