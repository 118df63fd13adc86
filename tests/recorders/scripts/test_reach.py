"""What a function can reach, read without calling it."""

import functools

import torch
from torch import nn

from vramscope.recorders.scripts import reach
from vramscope.recorders.scripts.reach import reach_of

MODEL = nn.Linear(2, 2)
HELD = {"models": [MODEL]}


class Holder:
    def __init__(self, model):
        self.model = model

    def run(self, x):
        return self.model(x)


def of_a_global(x):
    return MODEL(x)


def of_a_container(x):
    return HELD["models"][0](x)


def by_another(x):
    return of_a_global(x)


def with_a_default(x, model=MODEL):
    return model(x)


def with_a_function_inside(x):
    def inner():
        return MODEL(x)

    return inner()


def of_nothing(x):
    MODEL = torch.relu(x)  # a name of its own
    return x.MODEL + MODEL  # and an attribute


def test_modules_are_found_wherever_a_function_has_them():
    local = nn.Linear(3, 3)

    def closes_over(x):
        return local(x)

    functions = [of_a_global, of_a_container, by_another, with_a_default, with_a_function_inside]
    assert all(reach_of(function).modules == [MODEL] for function in functions)
    assert reach_of(closes_over).modules == [local]
    assert reach_of(Holder(local).run).modules == [local]
    assert reach_of(functools.partial(with_a_default, model=local)).modules == [local, MODEL]
    assert reach_of(lambda x: Holder(x)).modules == []


def test_a_module_is_not_looked_into():
    both = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    assert reach_of(lambda x: both(x)).modules == [both]


def test_optimizers_are_found():
    optimizer = torch.optim.SGD(MODEL.parameters(), 0.1)
    assert reach_of(lambda: optimizer.step()).optimizers == [optimizer]
    assert reach_of(optimizer.step).optimizers == [optimizer]


def test_nothing_is_found_where_there_is_nothing():
    for function in (of_nothing, torch.relu, torch.nn.functional.cross_entropy, len):
        found = reach_of(function)
        assert (found.modules, found.optimizers, found.is_complete) == ([], [], True)


def imports(x):
    import torch.nn.functional

    return torch.nn.functional.relu(x)


def makes_an_object(x):
    return Holder(x)


def has_an_unknown_name(x):
    return not_there_yet(x)  # noqa: F821 - as in a script that defines it later


def test_what_may_reach_more_is_not_complete():
    assert not any(reach_of(function).is_complete for function in (imports, makes_an_object, has_an_unknown_name))
    assert not reach_of(Holder(None).run).is_complete


def test_no_code_of_the_program_runs():
    class Jealous:
        def __getattribute__(self, name):
            raise AssertionError(name)

    jealous = Jealous()
    assert not reach_of(lambda: jealous).is_complete


def test_too_much_to_look_at_is_said(monkeypatch):
    monkeypatch.setattr(reach, "_MOST", 3)
    deep = [[[[MODEL]]], [1], [2], [3]]
    assert not reach_of(lambda: deep).is_complete


def test_a_variable_that_has_no_value_yet_is_passed_over():
    def early():
        return late

    assert reach_of(early).modules == []
    late = MODEL
    assert reach_of(early).modules == [late]
