"""Which of the modules that a script calls are models of their own, and what their paths begin with."""

import torch
from torch import nn

from vramscope.recorders.scripts.roots import Roots


def test_what_lies_inside_a_known_model_is_a_call_and_no_model() -> None:
    roots, model = Roots(), nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert roots.add(model) == ""
    assert roots.add(model[0]) is None
    assert list(roots) == [(model, "")]
    assert model[0] in roots


def test_the_first_model_leaves_its_place_to_what_holds_it() -> None:
    roots, part, other = Roots(), nn.Linear(2, 2), nn.Linear(3, 3)
    assert [roots.add(part), roots.add(other)] == ["", "Linear"]
    model = nn.Sequential(nn.Sequential(part))
    assert roots.add(model) == ""
    assert list(roots) == [(model, ""), (other, "Linear")]


def test_a_further_model_gives_way_under_the_name_of_what_holds_it() -> None:
    roots, first, part = Roots(), nn.Linear(3, 3), nn.Linear(2, 2)
    assert [roots.add(first), roots.add(part)] == ["", "Linear"]
    model = nn.Sequential(part)
    assert roots.add(model) == "Sequential"
    assert list(roots) == [(first, ""), (model, "Sequential")]


def test_a_model_is_one_again_when_what_held_it_is_gone() -> None:
    roots, model = Roots(), nn.Linear(2, 2)
    roots.add(model)
    wrapper = nn.Sequential(model)
    roots.add(wrapper)
    assert list(roots) == [(wrapper, "")]
    del wrapper
    assert list(roots) == [(model, "")]


def test_a_part_is_a_model_when_what_held_it_is_gone() -> None:
    roots, part = Roots(), nn.Linear(2, 2)
    wrapper = nn.Sequential(part)
    roots.add(wrapper)
    roots.add(part)
    del wrapper
    assert list(roots) == [(part, "Linear")] == list(roots)


def test_a_module_that_only_shares_parameters_is_a_model() -> None:
    roots, model, tied = Roots(), nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight, tied.bias = model.weight, model.bias
    roots.add(model)
    assert roots.add(tied) == "Linear"


def test_a_module_with_parameters_that_nobody_knows_is_a_model() -> None:
    """It was put into a known one later, by whose names nobody goes yet."""
    roots, model = Roots(), nn.Sequential(nn.Linear(2, 2))
    roots.add(model)
    model.append(nn.Linear(2, 2))
    assert roots.add(model[1]) == "Linear"


def test_a_model_that_nobody_ran_is_no_more_where_a_part_of_another() -> None:
    roots, idle = Roots(), nn.Linear(2, 2)
    roots.add_idle(idle)
    model = nn.Sequential(idle)
    roots.add(model)
    assert not roots.idle()


def test_what_torch_compile_gives_is_the_model() -> None:
    roots, model = Roots(), nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    roots.add(model)
    assert roots.add(compiled) is None
    assert list(roots) == [(model, "")]
