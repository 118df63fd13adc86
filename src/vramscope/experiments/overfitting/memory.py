"""What each remedy costs in a training step, judged to the byte where it can be derived."""

from vramscope.experiments.overfitting.measurement import Measured
from vramscope.experiments.overfitting.recipes import BASELINE, FEATURES
from vramscope.findings import Claim, Origin
from vramscope.ledger.categories import Category
from vramscope.units import format_size

_FLOAT_BYTES, _HIDDEN_LAYERS = 4, 2
_MAPS_PER_DROPOUT = 2
"""Dropout keeps its mask for its own backward, and its output is what the next layer keeps (aten/src/ATen/native/
Dropout.cpp, _dropout_impl: on the CPU the mask is a tensor of the input's dtype)."""


def judge_memory(measured: Measured) -> Claim:
    """What each remedy adds to, or takes from, what the baseline's step holds."""
    sizes, profiles = measured.sizes, measured.profiles
    retained = {name: profile.retained_bytes for name, profile in profiles.items()}
    peaks = {name: profile.summary.peak.bytes for name, profile in profiles.items()}
    kept = {name: profile.most_bytes(Category.BUFFERS) for name, profile in profiles.items()}
    base, map_bytes = retained[BASELINE], sizes.samples * sizes.width * _FLOAT_BYTES
    masks = _HIDDEN_LAYERS * _MAPS_PER_DROPOUT * map_bytes
    weights = profiles["early stopping"].parameter_bytes
    return Claim(
        "Remedies cost memory where they add data, masks or copies: dropout two feature maps a layer, augmentation a "
        "copy of the inputs, early stopping a copy of the weights; weight decay costs nothing, a smaller model saves",
        {
            "more data: more is retained": retained["more data"] > base,
            "augmentation: a copy of the inputs": retained["augmentation"] - base
            == sizes.samples * FEATURES * _FLOAT_BYTES,
            "dropout: two feature maps a layer": retained["dropout"] - base == masks,
            "smaller model: a lower peak": peaks["smaller model"] < peaks[BASELINE],
            "weight decay: the same peak": peaks["weight decay"] == peaks[BASELINE],
            "early stopping: a copy of the weights": kept["early stopping"] == weights,
        },
        "peak of a step: " + ", ".join(f"{name} {format_size(size)}" for name, size in peaks.items()),
        {
            "retained_bytes": retained,
            "training_peak_bytes": peaks,
            "kept_bytes": kept,
            "feature_map_bytes": map_bytes,
            "parameter_bytes": {name: profile.parameter_bytes for name, profile in profiles.items()},
        },
        Origin.CONTROL,
    )
