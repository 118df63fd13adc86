"""Of which sizes the models are, and over which batches and depths they go."""

from collections.abc import Mapping
from dataclasses import dataclass

from vramscope.experiments.frame import Settings

_STEP = 8
"""From one batch of the MLP to the next."""


@dataclass(frozen=True)
class Sizes:
    """Of the models: width in features or channels, image size in pixels, tokens; batches and depths to go through."""

    mlp_width: int
    channels: int
    pixels: int
    token_width: int
    tokens: int
    batches: Mapping[str, tuple[int, ...]]
    depths: tuple[int, ...]

    def batch(self, model: str) -> int:
        """The batch at which a model's depth is varied and everything else is measured."""
        return self.batches[model][1]

    @property
    def depth(self) -> int:
        """The depth at which batch is varied and everything else is measured."""
        return self.depths[1]


@dataclass(frozen=True)
class Variant:
    """One of the models at one batch and depth, in samples and blocks."""

    model: str
    batch: int
    depth: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.model}, batch {self.batch}, depth {self.depth}"


def variants_of(sizes: Sizes, model: str) -> tuple[Variant, ...]:
    """Every batch at one depth, and every depth at one batch."""
    over_batch = [Variant(model, batch, sizes.depth) for batch in sizes.batches[model]]
    over_depth = [Variant(model, sizes.batch(model), depth) for depth in sizes.depths]
    return tuple(dict.fromkeys([*over_batch, *over_depth]))


def mlp_batches(width: int, count: int) -> tuple[int, ...]:
    """Batches of an MLP in steps of 8, of which the last alone lies beyond the point where activations outgrow weights.

    A layer has width² weights, of which training with AdamW holds four copies (the weight, its gradient, two moments),
    and retains width numbers for each sample: as many from 4 width² / width = 4 width samples on. The last batch is
    four times that, and the one before it half of it, so that the claim about large batches is tested on both sides.
    """
    crossing = 4 * width
    return tuple(4 * crossing // _STEP**power for power in reversed(range(count)))


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    width, images = settings.choose(64, 512), settings.choose((1, 4, 16), (1, 4, 16, 64))
    return Sizes(
        mlp_width=width,
        channels=settings.choose(8, 32),
        pixels=settings.choose(12, 32),
        token_width=settings.choose(32, 128),
        tokens=settings.choose(16, 64),
        batches={"MLP": mlp_batches(width, settings.choose(3, 4)), "CNN": images, "transformer": images},
        depths=settings.choose((2, 4, 6), (2, 4, 8, 12)),
    )
