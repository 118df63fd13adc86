"""GPT-2, the 124M-parameter language model.

Source: A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3, with what it takes
over from A. Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018: dropout 0.1, weights
drawn from N(0, 0.02), the output layer tied to the token embedding.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.models.built_in import BuiltIn
from vramscope.workloads.models.checkpointing import run_block


@dataclass(frozen=True)
class Gpt2Sizes:
    """The small model's sizes; smaller ones serve tests."""

    vocabulary: int = 50257
    context: int = 1024
    width: int = 768
    layers: int = 12
    heads: int = 12
    dropout: float = 0.1


class CausalAttention(nn.Module):
    """Multi-head self-attention to the tokens before: ``[batch, tokens, width]`` to the same."""

    def __init__(self, sizes: Gpt2Sizes) -> None:
        """Make one projection for queries, keys and values together, and one back."""
        super().__init__()
        self.heads = sizes.heads
        self.dropout = sizes.dropout
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.out_dropout = nn.Dropout(sizes.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[batch, tokens, width]`` to the same."""
        batch, tokens, width = hidden.shape
        split = self.qkv(hidden).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        output: Tensor = self.out_dropout(self.out(mixed.transpose(1, 2).reshape(batch, tokens, width)))
        return output


class DecoderBlock(nn.Module):
    """Attention and an MLP, each after a LayerNorm and around a residual: ``[batch, tokens, width]`` to the same."""

    def __init__(self, sizes: Gpt2Sizes) -> None:
        """Make one block; the paper's GELU is the tanh approximation."""
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width)
        self.attention = CausalAttention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.mlp = nn.Sequential(
            nn.Linear(sizes.width, 4 * sizes.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * sizes.width, sizes.width),
            nn.Dropout(sizes.dropout),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """``[batch, tokens, width]`` to the same."""
        hidden = hidden + self.attention(self.norm1(hidden))
        output: Tensor = hidden + self.mlp(self.norm2(hidden))
        return output


class Gpt2(nn.Module):
    """Token numbers ``[batch, tokens]`` to logits of the next token ``[batch, tokens, vocabulary]``."""

    def __init__(self, sizes: Gpt2Sizes | None = None, checkpoint: bool = False) -> None:
        """Make the network; with ``checkpoint`` each decoder block is recomputed in backward."""
        super().__init__()
        sizes = sizes or Gpt2Sizes()
        self.checkpoint = checkpoint
        self.token_embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_embedding = nn.Embedding(sizes.context, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(DecoderBlock(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        # on "meta", since its own weight is never used: tying replaces it
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False, device="meta")
        self.head.weight = self.token_embedding.weight
        _initialize(self, sizes.layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[batch, tokens]`` to ``[batch, tokens, vocabulary]``."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


def _initialize(model: Gpt2, layers: int) -> None:
    """N(0, 0.02) and zero biases; what ends a residual branch is scaled by 1/sqrt of the number of branches."""
    for name, module in model.named_modules():
        if module is model.head:
            continue  # its weight is the token embedding's
        if isinstance(module, nn.Linear | nn.Embedding):
            ends_branch = name.endswith(("attention.out", "mlp.2"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if ends_branch else 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _tokens(name: str, batch: int, seq: int) -> InputSpec:
    return InputSpec(name, "int64", (batch, seq), Gpt2Sizes.vocabulary)


BUILT_IN = BuiltIn(
    name="gpt2",
    build=lambda checkpoint: Gpt2(checkpoint=checkpoint),
    inputs=lambda batch, seq: _tokens("tokens", batch, seq),
    targets=lambda batch, seq: _tokens("targets", batch, seq),
    batch=1,
    seq=256,
    longest=Gpt2Sizes.context,
)
