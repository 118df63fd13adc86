"""ResNet-18 for ImageNet.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2016, table 1, with the
projection shortcuts of option B.
"""

from torch import Tensor, nn

from vramscope.workloads.models.built_in import IMAGE_CLASSES, BuiltIn, image_class, image_input
from vramscope.workloads.models.checkpointing import run_block


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``[batch, before, size, size]`` to ``[batch, after, size/stride, …]``."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """Make a block; the shortcut is a 1x1 convolution only where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, features: Tensor) -> Tensor:
        """The sum of shortcut and convolutions, rectified."""
        hidden = self.relu(self.norm1(self.conv1(features)))
        hidden = self.norm2(self.conv2(hidden))
        hidden += self.shortcut(features)
        output: Tensor = self.relu(hidden)
        return output


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class ResNet18(nn.Module):
    """Four stages of two blocks each: ``[batch, 3, height, width]`` to ``[batch, classes]`` logits.

    With ``checkpoint`` each block is recomputed in backward, which updates its BatchNorm statistics twice a step.
    """

    def __init__(self, classes: int = IMAGE_CLASSES, width: int = 64, checkpoint: bool = False) -> None:
        """Make the network; ``width`` is the number of channels in the first stage."""
        super().__init__()
        self.checkpoint = checkpoint
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.blocks = nn.ModuleList(_blocks(width))
        self.head = nn.Linear(8 * width, classes)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, height, width]`` to ``[batch, classes]``."""
        hidden: Tensor = self.stem(images)
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


def _blocks(width: int) -> list[BasicBlock]:
    """Each stage after the first doubles the channels and halves the size."""
    blocks = [BasicBlock(width, width, 1), BasicBlock(width, width, 1)]
    for before in (width, 2 * width, 4 * width):
        blocks += [BasicBlock(before, 2 * before, 2), BasicBlock(2 * before, 2 * before, 1)]
    return blocks


def _initialize(module: nn.Module) -> None:
    """He initialization, as the paper's section 3.4 asks."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


BUILT_IN = BuiltIn(
    name="resnet18",
    build=lambda checkpoint: ResNet18(checkpoint=checkpoint),
    inputs=image_input,
    targets=image_class,
)
