"""A multilayer perceptron for 28x28 digits.

Source: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors", 1986; the layer
sizes are those common for MNIST, with ReLU for the sigmoid.
"""

import itertools

from torch import Tensor, nn

from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.models.built_in import BuiltIn
from vramscope.workloads.models.checkpointing import run_block

PIXELS, HIDDEN, CLASSES = 784, (512, 256), 10


class Mlp(nn.Module):
    """Linear layers with ReLU between them: ``[batch, sizes[0]]`` to ``[batch, sizes[-1]]`` logits."""

    def __init__(self, sizes: tuple[int, ...] = (PIXELS, *HIDDEN, CLASSES), checkpoint: bool = False) -> None:
        """Make one linear layer from each size to the next."""
        super().__init__()
        self.checkpoint = checkpoint
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, after), nn.ReLU()) for width, after in itertools.pairwise(sizes[:-1])
        )
        self.head = nn.Linear(sizes[-2], sizes[-1])

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, sizes[0]]`` to ``[batch, sizes[-1]]``."""
        hidden = images
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(hidden)
        return logits


BUILT_IN = BuiltIn(
    name="mlp",
    build=lambda checkpoint: Mlp(checkpoint=checkpoint),
    inputs=lambda batch, _: InputSpec("images", "float32", (batch, PIXELS)),
    targets=lambda batch, _: InputSpec("targets", "int64", (batch,), CLASSES),
)
