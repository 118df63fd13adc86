"""The three models, and a chain of layers that has nothing but the two feature maps at a time."""

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vramscope.experiments.profiled import Subject
from vramscope.experiments.training_vs_inference.feature_maps import Watch
from vramscope.experiments.training_vs_inference.sizes import Sizes, Variant
from vramscope.workloads.losses import cross_entropy
from vramscope.workloads.models.checkpointing import run_block
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.models.mlp import Mlp
from vramscope.workloads.models.resnet18 import BasicBlock
from vramscope.workloads.workload import Workload

_CLASSES, _FLOAT_BYTES = 10, 4


class ResidualCnn(nn.Module):
    """ResNet blocks of one width: ``[batch, 3, size, size]`` to ``[batch, classes]``, after He et al., 2016."""

    def __init__(self, channels: int, depth: int, checkpoint: bool) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(BasicBlock(channels, channels, 1) for _ in range(depth))
        self.head = nn.Linear(channels, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, size, size]`` to ``[batch, classes]``."""
        hidden: Tensor = self.stem(images)
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


Parts = tuple[nn.Module, Tensor, Tensor]
"""A model, its inputs and its targets."""
Builder = Callable[[Sizes, Variant, bool], Parts]


def _build_mlp(sizes: Sizes, variant: Variant, checkpoint: bool) -> Parts:
    model = Mlp((*[sizes.mlp_width] * (variant.depth + 1), _CLASSES), checkpoint)
    return model, torch.randn(variant.batch, sizes.mlp_width), torch.randint(_CLASSES, (variant.batch,))


def _build_cnn(sizes: Sizes, variant: Variant, checkpoint: bool) -> Parts:
    model = ResidualCnn(sizes.channels, variant.depth, checkpoint)
    images = torch.randn(variant.batch, 3, sizes.pixels, sizes.pixels)
    return model, images, torch.randint(_CLASSES, (variant.batch,))


def _build_transformer(sizes: Sizes, variant: Variant, checkpoint: bool) -> Parts:
    shape = Gpt2Sizes(vocabulary=256, context=sizes.tokens, width=sizes.token_width, layers=variant.depth, heads=4)
    tokens = torch.randint(shape.vocabulary, (variant.batch, sizes.tokens))
    return Gpt2(shape, checkpoint), tokens, tokens.roll(-1, dims=1)


MODELS: Mapping[str, Builder] = {"MLP": _build_mlp, "CNN": _build_cnn, "transformer": _build_transformer}


def build_chain(sizes: Sizes) -> Parts:
    """Layers in a row, of several widths, and nothing that holds on to what lies between them.

    ``nn.Sequential`` hands a layer's output on in the one variable that held its input (torch/nn/modules/container.py,
    forward): while a layer runs its input and its output are alive, and nothing else is. A linear layer with a bias
    writes it into its output before it multiplies (aten/src/ATen/native/LinearAlgebra.cpp, addmm_impl_cpu_), and ReLU
    needs no scratch: hence the rule must be exact here.
    """
    widths = chain_widths(sizes)
    layers = [module for pair in itertools.pairwise(widths) for module in (nn.Linear(*pair), nn.ReLU())]
    inputs = torch.randn(sizes.batch("MLP"), widths[0])
    return nn.Sequential(*layers), inputs, torch.randint(widths[-1], (len(inputs),))


def chain_widths(sizes: Sizes) -> tuple[int, ...]:
    """Features from the chain's input to its output; the widest lie in the middle, so that one pair is the largest."""
    width = sizes.mlp_width
    return width, width // 2, 2 * width, width, width // 2


def chain_pair_bytes(sizes: Sizes) -> int:
    """By arithmetic: the two feature maps of the chain's widest ReLU, float32."""
    return 2 * max(chain_widths(sizes)) * sizes.batch("MLP") * _FLOAT_BYTES


def as_subject(name: str, build_parts: Callable[[], Parts], watch: Watch | None = None) -> Subject:
    """Something to profile; ``watch`` takes note of its feature maps."""

    def build() -> Workload:
        model, inputs, targets = build_parts()
        if watch is not None:
            watch.attach(model)
        return Workload(model, inputs, cross_entropy, targets)

    return Subject(name, build)


def subject_of(sizes: Sizes, variant: Variant, checkpoint: bool = False) -> Subject:
    """A variant as something to profile."""
    return as_subject(variant.name, lambda: MODELS[variant.model](sizes, variant, checkpoint))
