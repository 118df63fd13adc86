"""A small model whose memory is watched; `Hidden` is what the regressing commit changes."""

import torch
from torch import nn

WIDTH = 64


class Hidden(nn.Module):
    """Keeps one activation of the width for backward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


class Tower(nn.Module):
    """A layer, its activation, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.hidden = Hidden()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.first(x)))


def build() -> Tower:
    return Tower()
