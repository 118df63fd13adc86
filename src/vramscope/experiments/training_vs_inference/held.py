"""What inference is claimed to hold, judged."""

from vramscope.experiments.evidence import keyed
from vramscope.experiments.training_vs_inference.feature_maps import Holding
from vramscope.experiments.training_vs_inference.measured import Measured
from vramscope.experiments.training_vs_inference.models import MODELS, chain_pair_bytes
from vramscope.findings import Claim, Origin
from vramscope.units import format_size


def judge_discards(measured: Measured) -> Claim:
    """The source: inference discards activations as it goes, so depth must not matter to what is transient."""
    transient = {
        model: {d: p.inference.summary.activations.transient_peak_bytes for d, p in measured.over_depth(model).items()}
        for model in MODELS
    }
    return Claim(
        "Inference discards activations as it goes: what it holds of them does not grow with depth",
        {model: len(set(by_depth.values())) == 1 for model, by_depth in transient.items()},
        ", ".join(
            f"{m} {format_size(max(by.values()))} at any depth"
            if len(set(by.values())) == 1
            else f"{m} {format_size(min(by.values()))} to {format_size(max(by.values()))}"
            for m, by in transient.items()
        ),
        {"transient_peak_bytes_by_depth": {model: keyed(by_depth) for model, by_depth in transient.items()}},
    )


def judge_two_maps(measured: Measured) -> Claim:
    """The source's rule, model by model; the evidence names every module that breaks it and what it held besides."""
    return Claim(
        "Besides the parameters inference holds two feature maps at a time: the input and the output of a layer",
        {model: maps.held_bytes <= maps.largest_pair_bytes for model, maps in measured.maps.items()},
        ", ".join(
            f"{model} holds {maps.held_bytes / maps.largest_pair_bytes:.2f} times its largest pair, most in "
            f"{maps.fullest.path} ({_besides(maps.fullest)})"
            for model, maps in measured.maps.items()
        ),
        {model: maps.evidence() for model, maps in measured.maps.items()},
    )


def _besides(holding: Holding) -> str:
    """What of the bytes held is of neither map, the largest first."""
    largest_first = sorted(holding.others.items(), key=lambda other: -other[1])
    return "of it outside the pair: " + ", ".join(
        f"{format_size(size)} from {origin}" for origin, size in largest_first
    )


def judge_chain(measured: Measured) -> Claim:
    """Where the rule is right: nothing else refers to a feature map, and no operator needs a workspace.

    What must be held is derived from the widths (see `build_chain`), not from what was seen.
    """
    chain, derived = measured.chain, chain_pair_bytes(measured.sizes)
    return Claim(
        "In a plain chain of linear layers and ReLU, without residuals, workspaces or a variable that keeps a block's "
        "input, the rule of two feature maps is exact",
        {
            "what is held is the largest pair": chain.held_bytes == chain.largest_pair_bytes == derived,
            "no layer holds more": all(holding.excess_bytes <= 0 for holding in chain.holdings),
        },
        f"{chain.held_bytes:,} B held, {chain.largest_pair_bytes:,} B in the largest pair, {derived:,} B derived",
        {**chain.evidence(), "derived_bytes": derived},
        Origin.CONTROL,
    )
