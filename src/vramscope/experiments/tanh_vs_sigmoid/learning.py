"""Networks with tanh, sigmoid and the two functions between them, which differ in one respect each; trained."""

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

THRESHOLD, _ENOUGH = 0.2, 0.15
"""Losses, in nats: that networks race to, and at which they stop."""
LEARNING_RATES = (0.1, 0.3, 1.0)
_FEATURES, _HIDDEN, _LAYERS, _SAMPLES = 2, 16, 3, 128


class TanhPlusOne(nn.Module):
    """tanh(z) + 1 = 2 sigmoid(2z): as steep as tanh, and centred at 1."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return torch.tanh(z) + 1


class CentredSigmoid(nn.Module):
    """sigmoid(z) - 1/2 = tanh(z/2) / 2: centred as tanh is, and as flat as sigmoid."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sigmoid(z) - 0.5


@dataclass(frozen=True)
class Form:
    """An activation function by the two respects in which tanh and sigmoid differ."""

    make: Callable[[], nn.Module]
    steep: bool
    centred: bool


FORMS: Mapping[str, Form] = {
    "tanh": Form(nn.Tanh, steep=True, centred=True),
    "sigmoid": Form(nn.Sigmoid, steep=False, centred=False),
    "tanh + 1": Form(TanhPlusOne, steep=True, centred=False),
    "sigmoid - 1/2": Form(CentredSigmoid, steep=False, centred=True),
}
"""Every combination of a largest slope of 1 or 1/4, and a middle at 0 or not."""

Losses = tuple[float, ...]


def form_of(*, steep: bool, centred: bool) -> str:
    """The name of the function with these properties."""
    return next(name for name, form in FORMS.items() if (form.steep, form.centred) == (steep, centred))


def build_network(activation: Callable[[], nn.Module]) -> nn.Sequential:
    """A small classifier; the same weights for a seed whatever the activation function."""
    widths = [_FEATURES, *[_HIDDEN] * _LAYERS]
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*(nn.Sequential(layer, activation()) for layer in layers), nn.Linear(_HIDDEN, 2))


def draw_classes() -> tuple[Tensor, Tensor]:
    """Points ``[samples, 2]`` around 0, and whether each lies on one side of a curve."""
    points = torch.randn(_SAMPLES, _FEATURES)
    return points, (points[:, 1] > torch.sin(2 * points[:, 0])).long()


def train(activation: Callable[[], nn.Module], seed: int, rate: float, epochs: int) -> Losses:
    """The loss before each full-batch gradient step, until it is small enough or the epochs are over."""
    torch.manual_seed(seed)
    network, (points, classes) = build_network(activation), draw_classes()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    losses: list[float] = []
    while len(losses) < epochs and (not losses or losses[-1] >= _ENOUGH):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(points), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return tuple(losses)


def epochs_until(losses: tuple[float, ...], threshold: float = THRESHOLD) -> int | None:
    """The first epoch whose loss is below a threshold; None where none is."""
    return next((epoch for epoch, loss in enumerate(losses) if loss < threshold), None)


@torch.no_grad()
def mean_activation(activation: Callable[[], nn.Module], seed: int) -> float:
    """Of all hidden units of an untrained network, over inputs that are centred at 0."""
    torch.manual_seed(seed)
    network, (hidden, _) = build_network(activation), draw_classes()
    means = []
    for block in list(network)[:-1]:
        hidden = block(hidden)
        means.append(float(hidden.mean()))
    return statistics.fmean(means)
