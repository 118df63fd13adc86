"""Deep networks with one activation function or another, and the gradients in them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import fit_line
from vramscope.experiments.frame import Settings
from vramscope.experiments.stacks import StackSizes

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
CLASSES = 10


@dataclass(frozen=True)
class Sizes(StackSizes):
    """With the depth that is profiled, in layers."""

    profiled_depth: int


@dataclass(frozen=True)
class Gradients:
    """Norms in one network, by layer from the input on.

    Attributes:
        outputs: of the loss's gradient with respect to each layer's output.
        weights: of the loss's gradient with respect to each layer's weight.
        relative_changes: of each weight in a plain step, over the weight's own norm and the learning rate.
        spectral: largest singular value of each layer's weight.
    """

    outputs: tuple[float, ...]
    weights: tuple[float, ...]
    relative_changes: tuple[float, ...]
    spectral: tuple[float, ...]

    def shrinks(self) -> Iterator[tuple[float, float]]:
        """For every layer but the first: by what it multiplies the gradient's norm, and its weight's spectral norm."""
        for layer in range(1, len(self.outputs)):
            yield self.outputs[layer - 1] / self.outputs[layer], self.spectral[layer]


def shrink_factor(norms: Sequence[float]) -> float:
    """The factor per layer, towards the input, of the exponential that fits norms given from the input on."""
    return math.exp(-fit_line(range(len(norms)), [math.log(norm) for norm in norms]).slope)


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    return Sizes(
        depths=settings.choose((2, 5, 20), (2, 5, 10, 20, 50)),
        width=settings.choose(32, 64),
        batch=settings.choose(32, 128),
        seeds=settings.seeds(settings.choose(3, 5)),
        profiled_depth=settings.choose(5, 20),
    )


def build_network(sizes: Sizes, depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Layers of equal width, each with the activation function, and a linear head; the same weights for a seed.

    Glorot's normal initialisation (Glorot and Bengio, 2010), for all activation functions alike.
    """
    layers = [nn.Linear(sizes.width, sizes.width) for _ in range(depth)]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
    blocks = [nn.Sequential(layer, activation()) for layer in layers]
    return nn.Sequential(*blocks, nn.Linear(sizes.width, CLASSES))


def measure_gradients(sizes: Sizes, depth: int, activation: Callable[[], nn.Module], seed: int) -> Gradients:
    """One backward pass in float64, which has room for gradients that float32 would round to 0."""
    torch.manual_seed(seed)
    network = build_network(sizes, depth, activation).double()
    hidden = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
    outputs: list[Tensor] = []
    *blocks, head = network
    for block in blocks:
        hidden = block(hidden)
        outputs.append(hidden)
    loss = functional.cross_entropy(head(hidden), torch.arange(sizes.batch) % CLASSES)
    weights = [parameter for block in blocks for parameter in block.parameters() if parameter.ndim == 2]
    gradients = torch.autograd.grad(loss, [*outputs, *weights])
    of_outputs, of_weights = gradients[:depth], gradients[depth:]
    return Gradients(
        outputs=tuple(float(gradient.norm()) for gradient in of_outputs),
        weights=tuple(float(gradient.norm()) for gradient in of_weights),
        relative_changes=tuple(float(g.norm() / w.detach().norm()) for g, w in zip(of_weights, weights, strict=True)),
        spectral=tuple(float(torch.linalg.matrix_norm(weight.detach(), ord=2)) for weight in weights),
    )
