"""The transformer of the `medium_*` snapshots, written from the description in `../shared/snapshots/README.md`.

Without autograd it is the program's own names that decide what lives. Which names held what is told by the recorded
stack of each free: the embedding's output, for one, goes when the whole model's ``forward`` returns
(cs336_basics/model.py of
Wedsonlin/assignment2-systems, the program that was recorded, calls it ``embedded_tokens``).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, HEADS, FEED_FORWARD, BLOCKS, VOCABULARY, BATCH = 1024, 16, 4096, 24, 10_000, 4
HEAD = WIDTH // HEADS
WARM_UPS = 5


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs).normal_())

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("... i, o i -> ... o", x, self.weight)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(VOCABULARY, WIDTH).normal_())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens, :]


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = x * scale
        return (self.weight * x).to(dtype)


class Rotary(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        positions = torch.arange(context)[:, None] * torch.ones(HEAD // 2)
        self.register_buffer("angles", torch.stack((positions.cos(), positions.sin())), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.unflatten(-1, (HEAD // 2, 2)).movedim(-1, 0)
        cos, sin = self.angles[:, : x.shape[-2], :]
        first = cos * x1 - sin * x2
        second = sin * x1 + cos * x2
        return torch.stack((first, second), -1).flatten(-2).contiguous()


class Attention(nn.Module):
    def __init__(self, rotary: Rotary) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (Linear(WIDTH, WIDTH) for _ in range(4))
        self.rotary = rotary

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-2]
        q, k, v = self.q(x), self.k(x), self.v(x)
        q, k, v = (item.unflatten(-1, (HEADS, HEAD)).transpose(-2, -3) for item in (q, k, v))
        q = self.rotary(q)
        k = self.rotary(k)
        positions = torch.arange(length)
        mask = positions[:, None] >= positions[None, :]
        merged = attend(q, k, v, mask).transpose(-2, -3).flatten(-2)
        return self.out(merged)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum("... q d, ... k d -> ... q k", q, k) / math.sqrt(HEAD)
    scores = torch.where(mask, scores, float("-inf"))
    return torch.einsum("... q k, ... k d -> ... q d", softmax(scores), v)


def softmax(x: Tensor) -> Tensor:
    x = x - x.max(-1, keepdim=True)[0]
    exponential = torch.exp(x)
    return exponential / exponential.sum(-1, keepdim=True)


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (
            Linear(WIDTH, FEED_FORWARD),
            Linear(FEED_FORWARD, WIDTH),
            Linear(WIDTH, FEED_FORWARD),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(silu(self.w1(x)) * self.w3(x))


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Block(nn.Module):
    def __init__(self, rotary: Rotary) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(rotary), FeedForward()
        self.norm1, self.norm2 = Norm(), Norm()

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.norm1(x))
        y = x + attended
        fed = self.feed_forward(self.norm2(y))
        return y + fed


class Medium(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.embedding, rotary = Embedding(), Rotary(context)
        self.blocks = nn.ModuleList([Block(rotary) for _ in range(BLOCKS)])
        self.norm, self.head = Norm(), Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)  # by this name it lives until the logits are there
        x = embedded
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x)


def log_softmax(x: Tensor) -> Tensor:
    largest = torch.max(x, -1, keepdim=True)[0]
    x = x - largest
    return x - torch.log(torch.sum(torch.exp(x), -1, keepdim=True))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    negated = -log_softmax(logits)
    return torch.gather(negated, -1, targets.unsqueeze(-1)).mean()


class AdamW(torch.optim.Optimizer):
    """Separate operations for each parameter, which replace the state."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state, g = self.state[p], p.grad.data
                t = state.get("t", 1)
                m, v = state.get("m", torch.zeros_like(p)), state.get("v", torch.zeros_like(p))
                rate = 1e-3 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                p.data -= 1e-3 * 0.01 * p.data
                next_m = 0.9 * m + (1 - 0.9) * g
                next_v = 0.999 * v + (1 - 0.999) * torch.square(g)
                p.data -= rate * next_m / (torch.sqrt(next_v) + 1e-8)
                state["t"], state["m"], state["v"] = t + 1, next_m, next_v
