"""The answer in a sentence and in a picture."""

from vramscope.experiments.profiled import stack_of
from vramscope.experiments.training_vs_inference.measured import Measured
from vramscope.experiments.training_vs_inference.models import MODELS
from vramscope.findings import Panel, PanelKind, Picture, Series

_CAPTION = (
    "First: both passes at their fullest moment, in multiples of inference's. Then how much of training's peak is "
    "activations retained for backward, as the batch grows. Last: what inference holds at its fullest moment, in "
    "multiples of the largest input and output of one layer; 1 is what the source's rule of two feature maps allows. "
    "Beyond it, a residual connection or a variable keeps an earlier map, or an operator needs room to work."
)


def answer(measured: Measured) -> str:
    """The decisive numbers."""
    pairs = {model: measured.largest(model) for model in MODELS}
    ratios = {m: p.training.summary.peak.bytes / p.inference.summary.peak.bytes for m, p in pairs.items()}
    return (
        "It keeps a gradient and the optimizer's state for each weight, and above all the activations that backward "
        "needs: at the largest "
        f"batch {', '.join(f'{p.retained_share:.0%} ({m})' for m, p in pairs.items())} of a peak that is "
        f"{', '.join(f'{ratio:.1f} ({m})' for m, ratio in ratios.items())} times that of inference."
    )


def draw(measured: Measured) -> Picture:
    """The peaks, the growth of what is retained, and what inference holds."""
    shares = [measured.largest(model).retained_share for model in MODELS]
    headline = f"With large batches, kept activations fill {min(shares):.0%} to {max(shares):.0%} of training's peak"
    return Picture(headline, (_peaks(measured), _growth(measured), _maps(measured)), _CAPTION)


def _peaks(measured: Measured) -> Panel:
    """Both passes of every model, in multiples of its inference peak."""
    names, peaks, units = [], [], []
    for model in MODELS:
        pair = measured.largest(model)
        for name, profile in (("inference", pair.inference), ("training", pair.training)):
            names.append(f"{model} {name}")
            peaks.append(profile.summary.peak.by_category)
            units.append(float(pair.inference.summary.peak.bytes))
    title = "Memory at the peak, largest batch"
    y_label = "multiples of inference's peak"
    return Panel(title, "model and pass", y_label, stack_of(peaks, units), PanelKind.STACK, tuple(names))


def _growth(measured: Measured) -> Panel:
    series = []
    for model in MODELS:
        shares = {float(batch): 100 * pair.retained_share for batch, pair in measured.over_batch(model).items()}
        series.append(Series(model, tuple(shares.values()), tuple(shares)))
    return Panel("Retained activations", "batch (samples)", "share of the peak (%)", tuple(series), log_x=True)


def _maps(measured: Measured) -> Panel:
    found = {"chain": measured.chain, **measured.maps}
    held = tuple(maps.held_bytes / maps.largest_pair_bytes for maps in found.values())
    series = (Series("held at inference's peak", held),)
    title = "Held in inference"
    levels = {"two\nmaps": 1.0}
    return Panel(title, "model", "multiples of the largest pair", series, PanelKind.BARS, tuple(found), levels)
