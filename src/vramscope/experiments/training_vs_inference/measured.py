"""What was measured: pairs of passes, controls, and what inference holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vramscope.experiments.profiled import Profiled
from vramscope.experiments.training_vs_inference.feature_maps import Holding
from vramscope.experiments.training_vs_inference.sizes import Sizes, Variant
from vramscope.ledger.summary import PassSummary


@dataclass(frozen=True)
class Pair:
    """Inference and training of one variant, training with AdamW."""

    inference: Profiled
    training: Profiled

    @property
    def extra_bytes(self) -> int:
        """By how much training's peak is higher."""
        return self.training.summary.peak.bytes - self.inference.summary.peak.bytes

    @property
    def retained_share(self) -> float:
        """The part of training's peak that is retained activations, alive at that moment."""
        return self.training.retained_bytes_at_peak / self.training.summary.peak.bytes


@dataclass(frozen=True)
class Controls:
    """One model, changed in one respect at a time.

    Attributes:
        sgd: training with plain SGD.
        checkpointed: training with the blocks' activations recomputed.
        with_gradients: a forward pass alone, gradients enabled.
        without_gradients: the same under ``no_grad``.
        learning_rates: how many numbers the optimizer keeps as learning rates.
        weights: elements of the parameters.
    """

    sgd: Profiled
    checkpointed: Profiled
    with_gradients: Profiled
    without_gradients: Profiled
    learning_rates: int
    weights: int


@dataclass(frozen=True)
class Maps:
    """Feature maps in an inference pass.

    Attributes:
        inference: the pass.
        holdings: what each module holds at its fullest moment.
        largest_pair_bytes: the largest two feature maps on either side of a layer.
        output_bytes: of the model's own output.
    """

    inference: Profiled
    holdings: tuple[Holding, ...]
    largest_pair_bytes: int
    output_bytes: int

    @property
    def held_bytes(self) -> int:
        """The most that inference holds besides parameters, buffers and inputs that are not being read."""
        return self.fullest.held_bytes

    @property
    def fullest(self) -> Holding:
        """The module that holds most; the first of several."""
        return max(self.holdings, key=lambda holding: holding.held_bytes)

    def evidence(self) -> dict[str, object]:
        """Every module that breaks the rule by name, with what it held besides its two maps."""
        exceptions = [{**asdict(h), "excess_bytes": h.excess_bytes} for h in self.holdings if h.excess_bytes > 0]
        return {
            "held_bytes": self.held_bytes,
            "largest_pair_bytes": self.largest_pair_bytes,
            "modules": len(self.holdings),
            "exceptions": exceptions,
        }


@dataclass(frozen=True)
class Measured:
    """Every model's pairs over batch and depth, its controls and feature maps; and a plain chain of layers."""

    sizes: Sizes
    pairs: Mapping[Variant, Pair]
    controls: Mapping[str, Controls]
    maps: Mapping[str, Maps]
    chain: Maps

    @property
    def passes(self) -> dict[str, PassSummary]:
        """All profiled passes."""
        found = {}
        for variant, pair in self.pairs.items():
            found[f"inference, {variant.name}"] = pair.inference.summary
            found[f"training, {variant.name}"] = pair.training.summary
        for model, controls in self.controls.items():
            found[f"training with SGD, {model}"] = controls.sgd.summary
            found[f"training with checkpointing, {model}"] = controls.checkpointed.summary
            found[f"forward with gradients, {model}"] = controls.with_gradients.summary
            found[f"forward under no_grad, {model}"] = controls.without_gradients.summary
        found["inference, plain chain"] = self.chain.inference.summary
        return found

    def base(self, model: str) -> Pair:
        """A model at the batch and depth that everything else is measured at."""
        return self.pairs[Variant(model, self.sizes.batch(model), self.sizes.depth)]

    def largest(self, model: str) -> Pair:
        """A model at its largest batch."""
        return self.pairs[Variant(model, self.sizes.batches[model][-1], self.sizes.depth)]

    def over_batch(self, model: str) -> dict[int, Pair]:
        """A model's pairs by batch."""
        return {b: self.pairs[Variant(model, b, self.sizes.depth)] for b in self.sizes.batches[model]}

    def over_depth(self, model: str) -> dict[int, Pair]:
        """A model's pairs by depth."""
        return {d: self.pairs[Variant(model, self.sizes.batch(model), d)] for d in self.sizes.depths}
