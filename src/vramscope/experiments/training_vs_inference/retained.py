"""What is claimed to be retained for backward, judged."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict

from vramscope.experiments.evidence import keyed
from vramscope.experiments.fits import fit_line
from vramscope.experiments.training_vs_inference.measured import Measured, Pair
from vramscope.experiments.training_vs_inference.models import MODELS
from vramscope.findings import Claim, Origin
from vramscope.ledger.categories import Category
from vramscope.units import format_size


def judge_batch(measured: Measured) -> Claim:
    """Retained activations against batch."""
    by_batch = {model: measured.over_batch(model) for model in MODELS}
    return _judge_growth("Activations retained for backward grow linearly with the batch", "sample", by_batch)


def judge_dominance(measured: Measured) -> Claim:
    """The source leaves activations out: how much of training's peak those are that were retained for backward."""
    pairs = {model: measured.over_batch(model) for model in MODELS}
    shares = {model: {b: pair.retained_share for b, pair in by.items()} for model, by in pairs.items()}
    return Claim(
        "As the batch grows, retained activations, which the source leaves out, become the largest part of training's "
        "peak",
        {
            **{f"{model}: their share grows": _rises(list(by.values())) for model, by in shares.items()},
            **{f"{m}: the largest part at batch {max(by)}": _largest_part(by[max(by)]) for m, by in pairs.items()},
        },
        "share of the peak: "
        + ", ".join(
            f"{model} {by[min(by)]:.0%} (batch {min(by)}) to {by[max(by)]:.0%} (batch {max(by)})"
            for model, by in shares.items()
        ),
        {model: keyed({b: _parts(pair) for b, pair in by.items()}) for model, by in pairs.items()},
        Origin.CORRECTION,
    )


def _largest_part(pair: Pair) -> bool:
    """Whether no other category, nor what is transient of the activations, is as much of training's peak."""
    peak, retained = pair.training.summary.peak, pair.training.retained_bytes_at_peak
    others = {**peak.by_category, Category.ACTIVATIONS: peak.by_category[Category.ACTIVATIONS] - retained}
    return retained > max(others.values())


def _parts(pair: Pair) -> dict[str, object]:
    """Three ways to count activations in training's peak: retained and alive then, all alive then, and retained."""
    training = pair.training
    return {
        "retained_share_of_peak": pair.retained_share,
        "peak_bytes": training.summary.peak.bytes,
        "retained_bytes_at_peak": training.retained_bytes_at_peak,
        "activation_bytes_at_peak": training.summary.peak.by_category[Category.ACTIVATIONS],
        "retained_bytes_when_backward_begins": training.retained_bytes,
    }


def judge_depth(measured: Measured) -> Claim:
    """Retained activations against depth."""
    by_depth = {model: measured.over_depth(model) for model in MODELS}
    return _judge_growth("Activations retained for backward grow linearly with depth", "block", by_depth)


def _judge_growth(statement: str, unit: str, pairs: Mapping[str, Mapping[int, Pair]]) -> Claim:
    retained = {model: {n: pair.training.retained_bytes for n, pair in by.items()} for model, by in pairs.items()}
    fits = {model: fit_line(list(by), list(by.values())) for model, by in retained.items()}
    return Claim(
        statement,
        {model: fit.is_straight and fit.slope > 0 for model, fit in fits.items()},
        ", ".join(
            f"{model} {format_size(round(fit.slope))} per {unit} (R² {fit.r_squared:.6f})"
            for model, fit in fits.items()
        ),
        {m: {"fit": asdict(fits[m]), "retained_bytes": keyed(by)} for m, by in retained.items()},
        Origin.CORRECTION,
    )


def judge_no_grad(measured: Measured) -> Claim:
    """The control: the same forward pass, with and without a graph."""
    kept = {model: c.with_gradients.held_after_forward() for model, c in measured.controls.items()}
    bare = {model: c.without_gradients.held_after_forward() for model, c in measured.controls.items()}
    output = {model: maps.output_bytes for model, maps in measured.maps.items()}
    return Claim(
        "It is autograd that retains them: under no_grad the same forward pass keeps nothing but its output",
        {
            **{f"{model}: under no_grad only the output": bare[model] == output[model] for model in MODELS},
            **{f"{model}: more with gradients": kept[model] > bare[model] for model in MODELS},
        },
        ", ".join(f"{model} {format_size(kept[model])} with, {format_size(bare[model])} without" for model in MODELS),
        {"held_with_gradients_bytes": kept, "held_under_no_grad_bytes": bare, "output_bytes": output},
        Origin.CONTROL,
    )


def judge_checkpointing(measured: Measured) -> Claim:
    """The control: what is recomputed need not be retained, while a block's input and random state must be.

    Where a block retains one map, as the MLP's do, there is nothing to save.
    """
    plain = {model: measured.base(model).training for model in MODELS}
    saved = {model: controls.checkpointed for model, controls in measured.controls.items()}
    return Claim(
        "Checkpointing, which recomputes activations, lowers what is retained and training's peak",
        {
            **{f"{m}: less retained": saved[m].retained_bytes < plain[m].retained_bytes for m in MODELS},
            **{f"{m}: a lower peak": saved[m].summary.peak.bytes < plain[m].summary.peak.bytes for m in MODELS},
        },
        ", ".join(
            f"{m} retains {saved[m].retained_bytes:,} B instead of {plain[m].retained_bytes:,} B, peak "
            f"{saved[m].summary.peak.bytes:,} B instead of {plain[m].summary.peak.bytes:,} B"
            for m in MODELS
        ),
        {
            m: {
                "retained_bytes": plain[m].retained_bytes,
                "checkpointed_retained_bytes": saved[m].retained_bytes,
                "recomputed_peak_bytes": saved[m].summary.activations.recomputed_peak_bytes,
                "peak_bytes": plain[m].summary.peak.bytes,
                "checkpointed_peak_bytes": saved[m].summary.peak.bytes,
            }
            for m in MODELS
        },
        Origin.QUESTION,
    )


def _rises(values: list[float]) -> bool:
    return all(before < after for before, after in itertools.pairwise(values))
