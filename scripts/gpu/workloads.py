"""What is predicted and measured: small workloads, one for each thing that CUDA does otherwise than the CPU."""

import torch
from torch import nn
from torch.nn import functional

from vramscope import Workload

WIDTH, HEADS, LENGTH, VOCABULARY = 256, 4, 256, 4096


class Block(nn.Module):
    """A transformer block; ``how`` chooses the attention."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = self._attend(*parts).transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.out(attended)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if self.how == "eager":
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            return functional.dropout(scores.softmax(-1), 0.1, self.training) @ value
        length = query.shape[2]
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril() if self.how == "mask" else None
        dropout = 0.1 if self.how == "dropout" and self.training else 0.0
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=self.how == "causal")


class Transformer(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block(how) for _ in range(4))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def _language(how: str, batch: int) -> Workload:
    tokens = torch.randint(VOCABULARY, (batch, LENGTH))
    return Workload(
        Transformer(how), tokens, lambda y, t: functional.cross_entropy(y.flatten(0, 1), t.flatten()), tokens
    )


def eager(batch: int = 8) -> Workload:
    return _language("eager", batch)


def plain(batch: int = 8) -> Workload:
    return _language("plain", batch)


def causal(batch: int = 8) -> Workload:
    return _language("causal", batch)


def mask(batch: int = 8) -> Workload:
    return _language("mask", batch)


def dropout(batch: int = 8) -> Workload:
    return _language("dropout", batch)


def dense(batch: int = 64) -> Workload:
    layers = [layer for _ in range(4) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return Workload(nn.Sequential(*layers, nn.Linear(512, 10)), torch.randn(batch, 512))


def convolutions(batch: int = 8) -> Workload:
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(64), nn.ReLU(), *head)
    return Workload(model, torch.randn(batch, 3, 64, 64))
