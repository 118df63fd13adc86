"""Watched models and optimizers: what they hold is labelled when it is new or elsewhere, and then no more."""

import gc
from collections.abc import Iterable

import torch
from torch import nn

from vramscope.recorders.labels import Label
from vramscope.recorders.optimizer_names import OptimizerNames
from vramscope.recorders.watching import WatchedModels

PARAMETERS = ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]


def model() -> nn.Sequential:
    """Two layers with parameters, a buffer, and two buffers that are None."""
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    made.register_buffer("table", torch.ones(4))
    return made


class Watch(WatchedModels):
    """Takes the names of the parameters that it tells of."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(lambda name, _: self.told.append(name), OptimizerNames())


def watching(net: nn.Module, root: str = "net") -> Watch:
    """A watch on a model that was looked at once."""
    watch = Watch()
    watch.watch(net, root)
    assert names(watch.fresh_labels()) == ["net.table", *PARAMETERS]
    return watch


def names(labels: Iterable[Label]) -> list[str]:
    return [label.name for label in labels]


def test_what_is_new_or_elsewhere_is_labelled_once() -> None:
    net = model()
    watch = watching(net)
    assert watch.told == PARAMETERS
    assert names(watch.fresh_labels()) == []
    net.table = torch.ones(5)
    net[0].weight.data = torch.ones(3, 2)
    net[1].bias = nn.Parameter(torch.ones(3))
    assert names(watch.fresh_labels()) == ["net.table", "net.0.weight", "net.1.bias"]
    assert watch.told == [*PARAMETERS, "net.0.weight", "net.1.bias"]
    assert watch.module_types == [["net", "Sequential"], ["net.0", "Linear"], ["net.1", "BatchNorm1d"]]


def test_a_parameter_has_its_name_for_as_long_as_a_model_holds_it() -> None:
    net = model()
    watch, earlier = watching(net), net[0].weight
    assert (watch.name_of(earlier), watch.name_of(torch.ones(2))) == ("net.0.weight", "")
    net[0].weight = nn.Parameter(torch.ones(3, 2))
    assert watch.name_of(earlier) == ""
    list(watch.fresh_labels())
    assert watch.name_of(net[0].weight) == "net.0.weight"
    assert {name for name, _ in watch.named_parameters()} == set(PARAMETERS)


def test_a_model_that_is_gone_holds_nothing() -> None:
    net = model()
    watch, kept = watching(net), net[0].weight
    del net
    assert watch.name_of(kept) == ""
    assert (list(watch.named_parameters()), list(watch.fresh_labels())) == ([], [])


def test_gradients_of_all_that_is_watched_or_of_those_that_are_given() -> None:
    net, stranger = model(), nn.Parameter(torch.ones(2))
    watch = watching(net)
    for parameter in (net[0].weight, net[1].bias, stranger):
        parameter.grad = torch.ones_like(parameter)
    assert names(watch.gradient_labels()) == ["net.0.weight", "net.1.bias"]
    assert names(watch.gradient_labels([net[1].bias, net[0].bias, stranger])) == ["net.1.bias"]


def test_a_model_that_another_one_turns_out_to_hold_goes_by_that_ones_names() -> None:
    net = model()
    watch, outer = watching(net), nn.ModuleDict({"inner": net})
    other = nn.Linear(1, 1)
    watch.watch(other, "other")
    assert len(list(watch.fresh_labels())) == 2
    watch.forget(net, {name: name.replace("net", "outer.inner") for name in PARAMETERS})
    assert {name for name, _ in watch.named_parameters()} == {"other.weight", "other.bias"}
    watch.watch(outer, "outer")
    assert names(watch.fresh_labels())[1:] == [name.replace("net", "outer.inner") for name in PARAMETERS]
    assert watch.name_of(net[1].bias) == "outer.inner.1.bias"
    assert watch.name_of(other.bias) == "other.bias"


def test_what_an_optimizer_holds_beside_models_goes_by_its_name_until_a_model_has_it() -> None:
    net, points = model(), nn.Parameter(torch.ones(2))
    points.grad = torch.ones(2)
    watch = watching(net)
    optimizer = torch.optim.SGD([*net.parameters(), points])
    name = "SGD.param_groups[0][4]"
    assert names(watch.watch_optimizer(optimizer)) == [name, name]  # itself and its gradient
    assert (names(watch.watch_optimizer(optimizer)), watch.name_of(points)) == ([], name)
    points.data = torch.ones(3)
    assert names(watch.fresh_labels()) == [name, name]
    net.register_parameter("points", points)
    assert names(watch.fresh_labels()) == ["net.points"]
    assert (watch.name_of(points), watch.renamed) == ("net.points", {name: "net.points"})


def test_optimizers_of_one_class_that_live_together_have_names_of_their_own() -> None:
    watch, points = Watch(), [nn.Parameter(torch.ones(2)) for _ in range(3)]
    first, second = torch.optim.SGD(points[:1]), torch.optim.SGD(points[1:2])
    found = [names(watch.watch_optimizer(optimizer)) for optimizer in (first, second)]
    assert found == [["SGD.param_groups[0][0]"], ["SGD_2.param_groups[0][0]"]]
    del first
    gc.collect()
    third = torch.optim.SGD(points[2:])
    assert names(watch.watch_optimizer(third)) == ["SGD.param_groups[0][0]"]
    assert watch.name_of(points[1]) == "SGD_2.param_groups[0][0]"


def test_an_optimizer_that_is_gone_names_nothing() -> None:
    points, watch = nn.Parameter(torch.ones(2)), Watch()
    optimizer = torch.optim.SGD([points])
    assert len(list(watch.watch_optimizer(optimizer))) == 1
    del optimizer
    gc.collect()
    assert (watch.name_of(points), list(watch.named_parameters())) == ("", [])


def test_an_optimizer_whose_parameters_are_all_known_is_looked_at_again_when_it_gets_more() -> None:
    net, late = model(), nn.Parameter(torch.ones(2))
    watch, optimizer = watching(net), torch.optim.SGD(net.parameters())
    assert names(watch.watch_optimizer(optimizer)) == []
    optimizer.add_param_group({"params": [late]})
    assert names(watch.watch_optimizer(optimizer)) == ["SGD.param_groups[1][0]"]


def test_an_optimizers_state_is_labelled_when_it_is_met_and_when_it_was_loaded() -> None:
    net = nn.Linear(2, 3, bias=False)
    watch, optimizer = Watch(), torch.optim.SGD(net.parameters(), momentum=0.9)
    net.weight.grad = torch.ones(3, 2)
    optimizer.step()
    assert names(watch.state_labels(optimizer)) == ["momentum_buffer"]
    assert names(watch.state_labels(optimizer)) == []
    optimizer.load_state_dict(optimizer.state_dict())
    assert names(watch.state_labels(optimizer)) == ["momentum_buffer"]
