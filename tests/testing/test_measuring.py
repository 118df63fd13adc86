"""What a measured test is found to hold, and by what evidence."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vramscope.ledger.ledger import Ledger
from vramscope.testing.figures import TestFigures, figures_of
from vramscope.testing.measuring import Measurement

BATCH_BYTES = 50 * 20 * 4
"""Of 50 rows of 20 numbers."""


def measured(test: Callable[[], object]) -> TestFigures:
    measurement = Measurement(torch.device("cpu"))
    measurement.start()
    try:
        test()
    finally:
        recording = measurement.finish()
    return figures_of(Ledger(recording), "cpu")


def layer() -> nn.Linear:
    return nn.Linear(20, 20)


class Recomputing(nn.Module):
    """Forgets the activations of its second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layer(), layer()

    def forward(self, batch: Tensor) -> Tensor:
        # reentrant: the layer runs again in the backward pass, on a copy of its input that has no history
        return checkpoint(self.second, self.first(batch).relu(), use_reentrant=True)  # type: ignore[no-any-return]


def trains_weights_of_a_model_that_is_never_called() -> None:
    model = layer()
    optimizer = torch.optim.SGD(model.parameters())
    (model.weight * 2).sum().backward()
    optimizer.zero_grad()


def adds_a_group() -> None:
    models = layer(), layer()
    optimizer = torch.optim.SGD(models[0].parameters())
    optimizer.add_param_group({"params": list(models[1].parameters())})


def trains_a_model_that_an_optimizer_is_made_for_first() -> None:
    model = nn.Sequential(layer(), nn.ReLU(), layer())
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(50, 20)).sum().backward()
    optimizer.step()


def hands_on_what_a_model_gave() -> None:
    models = layer(), layer()
    with torch.no_grad():
        models[1](models[0](torch.ones(50, 20)))


def recomputes() -> None:
    Recomputing()(torch.ones(50, 20)).sum().backward()


class Graph:
    def __init__(self) -> None:
        self.nodes = torch.ones(50, 20)


class OfGraphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def forward(self, graph: Graph) -> Tensor:
        return self.layer(graph.nodes)


def is_given_in_an_object() -> None:
    OfGraphs()(Graph())


def is_given_by_keyword() -> None:
    layer()(input=torch.ones(50, 20))


def test_parameters_of_an_optimizer_are_known_although_their_model_is_never_called() -> None:
    found = measured(trains_weights_of_a_model_that_is_never_called)
    assert found.category_peaks["parameters"] == (20 * 20 + 20) * 4
    assert found.category_peaks["gradients"] == 20 * 20 * 4  # of the weight alone
    assert measured(adds_a_group).category_peaks["parameters"] == 2 * (20 * 20 + 20) * 4


def test_a_model_that_is_called_names_what_its_optimizer_had() -> None:
    found = measured(trains_a_model_that_an_optimizer_is_made_for_first)
    assert set(found.modules) <= {"", "0", "1", "2"}
    assert found.category_peaks["parameters"] == 2 * (20 * 20 + 20) * 4
    # two copies of each parameter, and a counter of 4 bytes for each of the 4 tensors
    assert found.category_peaks["optimizer_state"] == 2 * 2 * (20 * 20 + 20) * 4 + 4 * 4


@pytest.mark.parametrize("test", [hands_on_what_a_model_gave, recomputes, is_given_by_keyword, is_given_in_an_object])
def test_what_a_model_is_called_with_from_outside_is_input(test: Callable[[], None]) -> None:
    assert measured(test).category_peaks["inputs"] == BATCH_BYTES


def test_torch_is_left_as_it_was() -> None:
    original = torch.optim.Optimizer.add_param_group
    measured(adds_a_group)
    assert torch.optim.Optimizer.add_param_group is original


def test_what_is_unattributed_might_be_of_any_category() -> None:
    found = measured(lambda: (layer().weight * 2).sum().backward())
    assert found.category_peaks["parameters"] == 0
    assert found.possible_peaks["parameters"] >= (20 * 20 + 20) * 4
