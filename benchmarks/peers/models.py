"""The models of the comparison, and what can be derived of their memory without running them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope import Workload
from vramscope.ledger.categories import Category
from vramscope.workloads.draft import Draft
from vramscope.workloads.losses import cross_entropy
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.targets import Target, resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

_FLOAT32 = 4
_HERE = "benchmarks.peers.models"


@dataclass(frozen=True)
class Model:
    """A model, how to make a workload of it, and its parameters, counted by hand.

    Attributes:
        name: for the tables.
        target: as vramscope takes it.
        parameters: elements of all parameters.
        tensors: how many parameters there are.
        checkpoint: whether activations are recomputed.
    """

    name: str
    target: str
    parameters: int
    tensors: int
    checkpoint: bool = False

    def prepare(self) -> PreparedWorkload:
        """The canonical workload: AdamW, float32, seed 0."""
        return resolve(self.target).prepare(WorkloadOptions(checkpoint=self.checkpoint))

    @property
    def truth(self) -> dict[Category, int]:
        """Bytes after a step of AdamW: a gradient and two moments like each parameter, a float per tensor for steps."""
        size = self.parameters * _FLOAT32
        state = 2 * size + self.tensors * _FLOAT32
        return {Category.PARAMETERS: size, Category.GRADIENTS: size, Category.OPTIMIZER_STATE: state}


def build_tiny(layers: int = 100, batch: int = 4) -> Workload:
    """A stack of tiny linear layers, each with a ReLU: almost nothing but overhead."""
    stack = [layer for _ in range(layers) for layer in (nn.Linear(16, 16), nn.ReLU())]
    return Workload(nn.Sequential(*stack), torch.randn(batch, 16), _sum)


@dataclass(frozen=True)
class _Stack:
    """A source of stacks of any height, which no target could name."""

    layers: int
    name: str = "stack"

    def draft(self, options: WorkloadOptions) -> Draft:
        made = build_tiny(self.layers, options.batch or 4)
        return Draft(made.model, made.call_arguments(), _sum, batch=options.batch)


def prepare_stack(layers: int, batch: int) -> PreparedWorkload:
    """The canonical workload of so many tiny layers, on so many samples."""
    return Target("stack", _Stack(layers)).prepare(WorkloadOptions(batch=batch))


def _sum(outputs: Tensor, _targets: object) -> Tensor:
    return outputs.sum()


_TRANSFORMER = Gpt2Sizes(vocabulary=8192, context=256, width=256, layers=6, heads=8)


def build_transformer(checkpoint: bool = False, batch: int = 8) -> Workload:
    """A GPT of 7 million parameters on sequences of 256 tokens."""
    tokens = torch.randint(_TRANSFORMER.vocabulary, (batch, _TRANSFORMER.context))
    return Workload(Gpt2(_TRANSFORMER, checkpoint), tokens, cross_entropy, targets=tokens)


class _Convolution(nn.Module):
    """One convolution, by the kernel that unfolds its input into columns; oneDNN's takes no memory from torch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=False):
            return functional.conv2d(x, self.weight)


def build_convolution() -> Workload:
    """A lone convolution of 8 images, 8 channels, 66 x 66 places."""
    return Workload(_Convolution(), torch.randn(8, 8, 66, 66), lambda outputs, _targets: outputs.mean())


def build_little(checkpoint: bool = False) -> Workload:
    """A GPT of two layers of 16, for smoke tests."""
    sizes = Gpt2Sizes(vocabulary=97, context=16, width=16, layers=2, heads=2)
    tokens = torch.randint(97, (2, 8))
    return Workload(Gpt2(sizes, checkpoint), tokens, cross_entropy, targets=tokens)


def _gpt(vocabulary: int, context: int, width: int, layers: int) -> int:
    """Parameters of a GPT with tied embeddings: per layer 12 d^2 weights and 13 d biases and norms, and a last norm."""
    return (vocabulary + context) * width + layers * (12 * width**2 + 13 * width) + 2 * width


_LSTM_LAYER = 4 * 650 * (650 + 650) + 2 * 4 * 650  # four gates of input and hidden weights, and two biases

MODELS = {
    model.name: model
    for model in (
        # two embeddings; per layer two norms and four linear layers, weight and bias each; a last norm
        Model("gpt2", "gpt2", _gpt(50257, 1024, 768, 12), 2 + 12 * 12 + 2),
        # He et al. 2015: 20 convolutions without bias, 20 batch norms, one linear layer
        Model("resnet18", "resnet18", 11_689_512, 20 + 2 * 20 + 2),
        # Dosovitskiy et al. 2021: class token, positions, patches; per layer as GPT-2; a last norm and the head
        Model("vit_b16", "vit_b16", 86_567_656, 4 + 12 * 12 + 4),
        # embedding; per layer four tensors; the head
        Model("lstm", "lstm", 10_000 * 650 + 2 * _LSTM_LAYER + 650 * 10_000 + 10_000, 1 + 8 + 2),
        Model("tiny", f"{_HERE}:build_tiny", 100 * (16 * 16 + 16), 200),
        Model(
            "checkpointed",
            f"{_HERE}:build_transformer",
            _gpt(8192, 256, 256, 6),
            2 + 12 * 6 + 2,
            checkpoint=True,
        ),
    )
}
KERNEL = Model("convolution", f"{_HERE}:build_convolution", 8 * 8 * 3 * 3, 1)
LITTLE = Model("little", f"{_HERE}:build_little", _gpt(97, 16, 16, 2), 2 + 12 * 2 + 2)
