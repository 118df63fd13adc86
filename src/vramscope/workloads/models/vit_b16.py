"""ViT-B/16, a Vision Transformer for ImageNet.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2021,
sections 3.1 and table 1; without dropout and with a single linear head, as when fine-tuned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.workloads.models.built_in import IMAGE_CLASSES, IMAGE_SIZE, BuiltIn, image_class, image_input
from vramscope.workloads.models.checkpointing import run_block


@dataclass(frozen=True)
class VitSizes:
    """The base model's sizes; smaller ones serve tests."""

    image: int = IMAGE_SIZE
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    classes: int = IMAGE_CLASSES


class Attention(nn.Module):
    """Multi-head self-attention without a mask: ``[batch, tokens, width]`` to the same."""

    def __init__(self, width: int, heads: int) -> None:
        """Make one projection for queries, keys and values together, and one back."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[batch, tokens, width]`` to the same."""
        batch, tokens, width = hidden.shape
        split = self.qkv(hidden).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return output


class EncoderBlock(nn.Module):
    """Attention and an MLP, each after a LayerNorm and around a residual: ``[batch, tokens, width]`` to the same."""

    def __init__(self, sizes: VitSizes) -> None:
        """Make one block."""
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attention = Attention(sizes.width, sizes.heads)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(sizes.width, sizes.mlp), nn.GELU(), nn.Linear(sizes.mlp, sizes.width))

    def forward(self, hidden: Tensor) -> Tensor:
        """``[batch, tokens, width]`` to the same."""
        hidden = hidden + self.attention(self.norm1(hidden))
        output: Tensor = hidden + self.mlp(self.norm2(hidden))
        return output


class VisionTransformer(nn.Module):
    """Patches, a class token and learned positions through an encoder: ``[batch, 3, image, image]`` to logits."""

    def __init__(self, sizes: VitSizes | None = None, checkpoint: bool = False) -> None:
        """Make the network; with ``checkpoint`` each encoder block is recomputed in backward."""
        super().__init__()
        sizes = sizes or VitSizes()
        self.checkpoint = checkpoint
        self.patches = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        tokens = (sizes.image // sizes.patch) ** 2 + 1
        self.positions = nn.Parameter(torch.empty(1, tokens, sizes.width).normal_(std=0.02))
        self.blocks = nn.ModuleList(EncoderBlock(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, eps=1e-6)
        self.head = nn.Linear(sizes.width, sizes.classes)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, image, image]`` to ``[batch, classes]``."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(self.norm(hidden)[:, 0])
        return logits


BUILT_IN = BuiltIn(
    name="vit_b16",
    build=lambda checkpoint: VisionTransformer(checkpoint=checkpoint),
    inputs=image_input,
    targets=image_class,
)
