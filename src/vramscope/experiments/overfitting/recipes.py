"""The remedies as recipes, and the networks they make."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vramscope.experiments.frame import Settings

BASELINE = "baseline"
SEEDS = 5
FEATURES = 10
_FLIPPED = 0.1
"""Share of wrong classes in the data: what a network can only learn by heart."""
_DROPOUT, _JITTER, _WEIGHT_DECAY = 0.5, 0.7, 0.3
_HELD_BACK = 4
"""Early stopping judges by one sample in so many, which it does not train on."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the baseline's.

    Attributes:
        claim: what it is said to do.
        more_data: times the baseline's samples.
        jitter: standard deviation of the noise added to every input anew: augmentation.
        dropout: share of hidden units that are left out in each step.
        width_divisor: times fewer hidden units.
        weight_decay: of AdamW.
        stops_early: keeps the weights that were best on samples held back from training.
    """

    claim: str = ""
    more_data: int = 1
    jitter: float = 0.0
    dropout: float = 0.0
    width_divisor: int = 1
    weight_decay: float = 0.0
    stops_early: bool = False

    @property
    def optimizer(self) -> str:
        """As `WorkloadOptions` takes it."""
        return f"adamw:weight_decay={self.weight_decay}"

    def held_back(self, samples: int) -> int:
        """How many of the samples are held back from training."""
        return samples // _HELD_BACK if self.stops_early else 0


RECIPES: Mapping[str, Recipe] = {
    BASELINE: Recipe(),
    "more data": Recipe("More data cures overfitting", more_data=8),
    "augmentation": Recipe("More data made by augmentation cures overfitting", jitter=_JITTER),
    "dropout": Recipe("Dropout cures overfitting", dropout=_DROPOUT),
    "smaller model": Recipe("A simpler model cures overfitting", width_divisor=16),
    "weight decay": Recipe("Weight decay cures overfitting", weight_decay=_WEIGHT_DECAY),
    "early stopping": Recipe("Early stopping cures overfitting", stops_early=True),
}


@dataclass(frozen=True)
class Sizes:
    """Training samples, hidden features per layer, and steps."""

    samples: int
    width: int
    steps: int
    seeds: tuple[int, ...]


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    seeds = settings.seeds(SEEDS)
    return Sizes(samples=60, width=settings.choose(64, 128), steps=settings.choose(100, 300), seeds=seeds)


def draw_data(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points ``[samples, features]`` and their class by the first three features; some classes are wrong."""
    points = torch.randn(samples, FEATURES, generator=generator)
    classes = points[:, 0] + points[:, 1] * points[:, 2] > 0
    flipped = torch.rand(samples, generator=generator) < _FLIPPED
    return points, (classes ^ flipped).long()


class Jitter(nn.Module):
    """Adds noise to its input in training, anew in every step: ``[samples, features]`` to the same."""

    def __init__(self, deviation: float) -> None:
        """Noise of this standard deviation."""
        super().__init__()
        self.deviation = deviation

    def forward(self, points: Tensor) -> Tensor:
        """The points, or noisy ones in training."""
        return points + self.deviation * torch.randn_like(points) if self.training else points


class KeepsBest(nn.Module):
    """A network beside a copy of its weights as they were when it was best: what early stopping holds in memory."""

    def __init__(self, network: nn.Module) -> None:
        """The copies are buffers, so that they move and count with the network."""
        super().__init__()
        self.network = network
        for number, parameter in enumerate(network.parameters()):
            self.register_buffer(f"best_{number}", parameter.detach().clone())

    def forward(self, points: Tensor) -> Tensor:
        """What the network makes of the points."""
        logits: Tensor = self.network(points)
        return logits

    @torch.no_grad()
    def keep(self) -> None:
        """Note the weights as the best so far."""
        for best, parameter in zip(self.buffers(recurse=False), self.network.parameters(), strict=True):
            best.copy_(parameter)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back."""
        for best, parameter in zip(self.buffers(recurse=False), self.network.parameters(), strict=True):
            parameter.copy_(best)


def build_network(sizes: Sizes, recipe: Recipe) -> nn.Module:
    """Two hidden layers with ReLU, and what the recipe adds: noise before them, dropout after each, kept weights."""
    width = max(sizes.width // recipe.width_divisor, 2)
    layers: list[nn.Module] = [Jitter(recipe.jitter)] if recipe.jitter else []
    for before in (FEATURES, width):
        layers += [nn.Linear(before, width), nn.ReLU()]
        layers += [nn.Dropout(recipe.dropout)] if recipe.dropout else []
    network = nn.Sequential(*layers, nn.Linear(width, 2))
    return KeepsBest(network) if recipe.stops_early else network
