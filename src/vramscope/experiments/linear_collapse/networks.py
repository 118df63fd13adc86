"""Linear networks, the one layer that equals them, and the best single layer for any other network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.frame import Settings
from vramscope.experiments.stacks import StackSizes

_SAMPLES_PER_INPUT = 16


def sizes_of(settings: Settings) -> StackSizes:
    """Sizes for a setting; one layer is there to compare memory with."""
    depths = settings.choose((1, 2, 8, 32), (1, 2, 4, 8, 16, 32))
    return StackSizes(depths, settings.choose(16, 64), settings.choose(32, 256), settings.seeds(settings.choose(2, 5)))


@dataclass(frozen=True)
class Misfit:
    """How far a network is from the best single layer, in two measures.

    Attributes:
        of_variation: length of the difference over that of the output's distance from its own mean: 0 for one linear
            layer, 1 where none does better than a constant. A layer's bias makes any constant, so that only what
            varies tells functions apart: a large constant part of the output would hide the difference otherwise.
        of_length: length of the difference over that of the output.
    """

    of_variation: float
    of_length: float

    @property
    def least(self) -> float:
        """The smaller of the two, so that no verdict rests on the choice between them."""
        return min(self.of_variation, self.of_length)

    @property
    def most(self) -> float:
        """The larger of the two."""
        return max(self.of_variation, self.of_length)


def build_network(width: int, layers: int, activation: Callable[[], nn.Module] | None = None) -> nn.Sequential:
    """Square linear layers in float64, with an activation function between them or none.

    Orthogonal weights keep a signal's length through any depth, so that no layer can be neglected.
    """
    modules: list[nn.Module] = []
    for index in range(layers):
        linear = nn.Linear(width, width, dtype=torch.float64)
        nn.init.orthogonal_(linear.weight)
        modules += [activation(), linear] if activation is not None and index else [linear]
    return nn.Sequential(*modules)


def collapse(network: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight ``[out, in]`` and bias ``[out]`` of the one layer that equals a network of linear layers.

    From W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), applied from the first layer to the last.
    """
    layers = [module for module in network if isinstance(module, nn.Linear)]
    weight: Tensor = layers[0].weight
    bias: Tensor = layers[0].bias
    for layer in layers[1:]:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    return weight, bias


@torch.no_grad()
def collapse_error(sizes: StackSizes, layers: int, seed: int) -> float:
    """How far a linear network is from its collapsed form, relative to its output."""
    torch.manual_seed(seed)
    network = build_network(sizes.width, layers)
    inputs = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
    outputs = network(inputs)
    return float((outputs - functional.linear(inputs, *collapse(network))).norm() / outputs.norm())


@torch.no_grad()
def best_layer_misfit(sizes: StackSizes, layers: int, seed: int, activation: Callable[[], nn.Module] | None) -> Misfit:
    """How far a network is from the best of all single layers, by least squares."""
    torch.manual_seed(seed)
    network = build_network(sizes.width, layers, activation)
    inputs = torch.randn(_SAMPLES_PER_INPUT * sizes.width, sizes.width, dtype=torch.float64)
    outputs = network(inputs)
    with_bias = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    # the default driver's last digits depend on where its buffers lie, and differ from run to run
    error = outputs - with_bias @ torch.linalg.lstsq(with_bias, outputs, driver="gels").solution
    variation = outputs - outputs.mean(dim=0)
    return Misfit(float(error.norm() / variation.norm()), float(error.norm() / outputs.norm()))
