"""Training by a recipe, and how it does on data it knows and on data it does not."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.overfitting.recipes import KeepsBest, Recipe, Sizes, build_network, draw_data

_TEST_SAMPLES = 1000
_CHECKED_EVERY = 5

Data = tuple[Tensor, Tensor]
"""Points ``[samples, features]`` and their classes ``[samples]``."""


@dataclass(frozen=True)
class Outcome:
    """Of one trained network: losses in nats and accuracies on the data it was fitted to and on new data.

    ``commoner`` is the share of the commoner class in the new data: what one scores by naming it always.
    """

    train_loss: float
    test_loss: float
    train_accuracy: float
    test_accuracy: float
    commoner: float = 0.5

    @property
    def gap(self) -> float:
        """By how much the loss on new data is larger, in nats."""
        return self.test_loss - self.train_loss


def train(sizes: Sizes, recipe: Recipe, seed: int) -> Outcome:
    """Train on a small data set, and compare with new data; the same data for a seed whatever the recipe."""
    generator = torch.Generator().manual_seed(seed)
    test = draw_data(_TEST_SAMPLES, generator)
    points, classes = draw_data(sizes.samples * recipe.more_data, generator)
    held_back = recipe.held_back(len(points))
    fitted, validation = (points[held_back:], classes[held_back:]), (points[:held_back], classes[:held_back])
    torch.manual_seed(seed)
    network = build_network(sizes, recipe)
    _fit(network, recipe, sizes.steps, fitted, validation)
    (train_loss, train_accuracy), (test_loss, test_accuracy) = _score(network, fitted), _score(network, test)
    ones = float(test[1].float().mean())
    return Outcome(train_loss, test_loss, train_accuracy, test_accuracy, max(ones, 1 - ones))


def _fit(network: nn.Module, recipe: Recipe, steps: int, data: Data, validation: Data) -> None:
    """Full-batch AdamW; to the end, or back to the weights that were best on the validation data."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=recipe.weight_decay)
    best_loss = float("inf")
    for step in range(steps):
        _step(network, optimizer, data)
        if isinstance(network, KeepsBest) and step % _CHECKED_EVERY == 0:
            loss, _ = _score(network, validation)
            if loss < best_loss:
                best_loss = loss
                network.keep()
    if isinstance(network, KeepsBest):
        network.restore()


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, data: Data) -> None:
    points, classes = data
    network.train()
    optimizer.zero_grad()
    functional.cross_entropy(network(points), classes).backward()
    optimizer.step()


@torch.no_grad()
def _score(network: nn.Module, data: Data) -> tuple[float, float]:
    """Loss and accuracy, without dropout and noise."""
    network.eval()
    points, classes = data
    logits = network(points)
    accuracy = (logits.argmax(dim=1) == classes).float().mean()
    return float(functional.cross_entropy(logits, classes)), float(accuracy)
