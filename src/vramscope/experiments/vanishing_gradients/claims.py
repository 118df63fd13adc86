"""What is claimed of deep sigmoid networks, judged."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from vramscope.experiments.evidence import keyed
from vramscope.experiments.vanishing_gradients.measurement import Measured
from vramscope.experiments.vanishing_gradients.networks import ACTIVATIONS, Gradients
from vramscope.experiments.vanishing_gradients.timing import REFERENCE
from vramscope.findings import Claim, Origin, Timing
from vramscope.units import format_size

SIGMOID_LIMIT = 0.25
"""The largest derivative of the sigmoid, s (1 - s) at s = 1/2."""
LEARNS_NOTHING = 0.01
"""A first layer that changes by less than this share of what the last one changes is said not to learn."""


def judge_bound(measured: Measured, limit: float = SIGMOID_LIMIT, activation: str = "sigmoid") -> Claim:
    """What follows from the largest derivative: g W' with |f'| at most ``limit`` is no longer than limit ||W|| |g|."""
    shares = {
        depth: max(ratio / (limit * spectral) for found in by_seed for ratio, spectral in found.shrinks())
        for depth, by_seed in measured.gradients[activation].items()
    }
    return Claim(
        f"A {activation} layer multiplies the gradient's norm by at most {limit} ||W||₂, on the way to the input",
        {f"{depth} layers": share <= 1 for depth, share in shares.items()},
        f"at most {max(shares.values()):.3f} of the bound, over all layers and {len(measured.sizes.seeds)} seeds",
        {"largest_share_of_bound_by_depth": keyed(shares), "derivative_limit": limit},
    )


def judge_vanishing(measured: Measured) -> Claim:
    """The source's claim that gradients shrink towards the input, fitted apart for outputs and weights."""
    factors = {depth: measured.factors("sigmoid", depth, output_norms) for depth in measured.fitted_depths}
    weights = {depth: measured.factors("sigmoid", depth, weight_norms) for depth in measured.fitted_depths}
    deepest = max(factors)
    checks = {f"{depth} layers, outputs": spread.highest < 1 for depth, spread in factors.items()}
    checks |= {f"{depth} layers, weights": spread.highest < 1 for depth, spread in weights.items()}
    return Claim(
        "Through sigmoid layers gradients shrink towards the input, layer by layer",
        checks,
        f"at {deepest} layers by a factor of {factors[deepest].mean:.3f} ± {factors[deepest].deviation:.3f} per layer "
        f"(weight gradients {weights[deepest].mean:.3f})",
        {
            "factor_per_layer": {name: _factor_evidence(measured, name, output_norms) for name in ACTIVATIONS},
            "weight_gradient_factor_per_layer": {n: _factor_evidence(measured, n, weight_norms) for n in ACTIVATIONS},
        },
    )


def judge_activation_is_why(measured: Measured) -> Claim:
    """The control: the same network and weights with another activation function."""
    means = {
        name: {depth: measured.factors(name, depth, output_norms).mean for depth in measured.fitted_depths}
        for name in ACTIVATIONS
    }
    deepest = max(measured.fitted_depths)
    return Claim(
        "It is the sigmoid that does it: with tanh or ReLU the same weights shrink gradients less",
        {
            f"{name}, {depth} layers": means[name][depth] > means["sigmoid"][depth]
            for name in ACTIVATIONS
            if name != "sigmoid"
            for depth in measured.fitted_depths
        },
        f"factor per layer at {deepest} layers: " + ", ".join(f"{n} {by[deepest]:.3f}" for n, by in means.items()),
        {"mean_factor_per_layer": {name: keyed(by_depth) for name, by_depth in means.items()}},
        Origin.CONTROL,
    )


def judge_last_layers(measured: Measured) -> Claim:
    """The source's "only the last layers learn": by what share of its norm a step changes each weight."""
    shares = {
        depth: max(found.relative_changes[0] / found.relative_changes[-1] for found in by_seed)
        for depth, by_seed in measured.gradients["sigmoid"].items()
    }
    return Claim(
        "In a network of sigmoid layers only the last layers learn",
        {f"{depth} layers: the first learns nothing": share < LEARNS_NOTHING for depth, share in shares.items()},
        "in one step the first layer changes by this share of the last: "
        + ", ".join(f"{share:.0e} at {depth} layers" for depth, share in shares.items())
        + f"; below {LEARNS_NOTHING:.0%} counts as learning nothing",
        {"first_over_last_relative_change_by_depth": keyed(shares), "threshold": LEARNS_NOTHING},
    )


def judge_memory(measured: Measured) -> Claim:
    """What autograd keeps for each activation function."""
    retained = {name: profile.retained_bytes for name, profile in measured.profiles.items()}
    return Claim(
        "Sigmoid, tanh and ReLU keep equally much for backward: their derivatives need only their output",
        {name: retained[name] == retained["ReLU"] for name in ACTIVATIONS if name != "ReLU"},
        ", ".join(f"{name} {format_size(size)}" for name, size in retained.items())
        + f" retained at {measured.sizes.profiled_depth} layers",
        {"retained_bytes": retained, "layers": measured.sizes.profiled_depth},
        Origin.CONTROL,
    )


def timings(measured: Measured) -> tuple[Timing, ...]:
    """The source's "exp makes it costly": shown and not judged, since times differ from run to run."""
    unit = measured.seconds[REFERENCE]
    ratios = {name: value / unit for name, value in measured.seconds.items() if name != REFERENCE}
    return (Timing(f"The source calls exp costly: each function's time alone, in multiples of {REFERENCE}'s", ratios),)


def output_norms(gradients: Gradients) -> tuple[float, ...]:
    """Of the loss's gradient with respect to each layer's output."""
    return gradients.outputs


def weight_norms(gradients: Gradients) -> tuple[float, ...]:
    """Of the loss's gradient with respect to each layer's weight."""
    return gradients.weights


def _factor_evidence(
    measured: Measured, name: str, of: Callable[[Gradients], Sequence[float]]
) -> dict[str, dict[str, float]]:
    return keyed({depth: asdict(measured.factors(name, depth, of)) for depth in measured.fitted_depths})
