"""What the compiler is told of the recorders' own code."""

import functools
import json
import types

from tests.processes import python

from vramscope.recorders import compiler

IN_A_RECORDING = """
import json, sys, torch, vramscope
from torch import nn
model = nn.Linear(4, 4)
assert "torch._dynamo" not in sys.modules
with vramscope.profile(model) as profile:
    @torch.compile(backend="eager")
    def step(x):
        loss = model(x).sum()
        loss.backward()
        return 2 * loss
    step(torch.ones(2, 4))
from torch._dynamo.utils import counters
peak = profile.summary.peak
print(json.dumps([counters["stats"]["unique_graphs"], sum(peak.by_category.values()) - peak.bytes]))
"""


def decorate(function):
    @functools.wraps(function)
    def decorated():
        return function()

    return decorated


class Sample:
    """Has code of every kind."""

    @property
    def found(self):
        return 1

    @found.setter
    def found(self, value):
        self.value = value

    @classmethod
    def of_class(cls):
        return lambda: cls

    @staticmethod
    def of_nobody(): ...

    @decorate
    def wrapped(): ...


def function():
    def inner():
        return lambda: None

    return inner


def test_all_code_of_a_module_is_found_and_none_of_others():
    module = types.ModuleType(__name__)
    vars(module).update(
        {"Sample": Sample, "function": function, "elsewhere": functools.wraps, "path": types.ModuleType}
    )
    names = sorted(code.co_qualname.removeprefix("Sample.") for code in compiler._codes_of_module(module))
    assert names == [
        "decorate.<locals>.decorated",
        "found",
        "found",
        "function",
        "function.<locals>.inner",
        "function.<locals>.inner.<locals>.<lambda>",
        "of_class",
        "of_class.<locals>.<lambda>",
        "of_nobody",
        "wrapped",
    ]


def test_a_compiler_that_is_loaded_in_the_middle_of_a_recording_passes_over_it_too():
    graphs, difference = json.loads(python("-W", "ignore", "-c", IN_A_RECORDING))
    assert graphs == 2  # before the backward pass, and after it
    assert difference == 0
