"""What is claimed of deep linear networks, judged."""

from dataclasses import asdict

from vramscope.experiments.evidence import keyed
from vramscope.experiments.linear_collapse.measurement import LINEAR, Measured
from vramscope.findings import Claim, Origin
from vramscope.units import format_size

TOLERANCE = 1e-10
"""Largest relative error, in float64, at which two functions count as equal; above it they count as different.

A product of n matrices loses at most about n times width times eps: 32 * 64 * 2.2e-16 = 4.5e-13 (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.5); 1e-10 leaves room for 200 times that."""
_FLOAT64_BYTES = 8


def judge_collapse(measured: Measured, tolerance: float = TOLERANCE) -> Claim:
    """The source's identity, at every depth."""
    errors = measured.collapse_errors
    return Claim(
        "A network of linear layers without activation functions is one linear layer: W2(W1 x + b1) + b2 = W'x + b'",
        {f"{depth} layers": error <= tolerance for depth, error in errors.items() if depth > 1},
        f"relative error at most {max(errors.values()):.1e} in float64, at up to {max(errors)} layers",
        {"largest_relative_error_by_depth": keyed(errors), "tolerance": tolerance, "seeds": measured.sizes.seeds},
    )


def judge_control(measured: Measured) -> Claim:
    """With an activation function the best single layer is another function; without, the same fit finds the layer.

    "Different" is what the identity's own tolerance does not call equal, in whichever measure is the smaller, so that
    there is no threshold of its own. The linear network shows that the fit can find equality where there is some.
    """
    checks = {
        f"{LINEAR}, {depth} layers: the fit finds the layer": max(m.most for m in found) <= TOLERANCE
        for depth, found in measured.misfits[LINEAR].items()
    }
    lowest = {}
    for name, by_depth in measured.misfits.items():
        if name != LINEAR:
            lowest[name] = min(measured.least_misfit(name).values())
            for depth, found in by_depth.items():
                checks[f"{name}, {depth} layers: another function"] = min(m.least for m in found) > TOLERANCE
    return Claim(
        "With an activation function between the layers no single linear layer does the same",
        checks,
        "the best single layer misses at least "
        + " and ".join(f"{error:.0%} ({name})" for name, error in lowest.items())
        + " of the output's variation",
        {
            "misfits": {
                name: keyed({depth: [asdict(misfit) for misfit in found] for depth, found in by_depth.items()})
                for name, by_depth in measured.misfits.items()
            },
            "tolerance": TOLERANCE,
        },
        Origin.CONTROL,
    )


def judge_nothing_changes(measured: Measured) -> Claim:
    """The source's "more layers change nothing": true of the function, not of what it costs."""
    one, deep = measured.profiles[1], measured.profiles[max(measured.profiles)]
    return Claim(
        "More linear layers change nothing",
        {
            "the function is that of one layer": max(measured.collapse_errors.values()) <= TOLERANCE,
            "the parameters take no more": deep.parameter_bytes == one.parameter_bytes,
            "the retained activations take no more": deep.retained_bytes == one.retained_bytes,
        },
        f"same function, but training {max(measured.profiles)} layers takes {format_size(deep.summary.peak.bytes)} "
        f"instead of {format_size(one.summary.peak.bytes)}",
        {"training_peak_bytes_by_depth": keyed({d: p.summary.peak.bytes for d, p in measured.profiles.items()})},
    )


def judge_memory(measured: Measured) -> Claim:
    """L layers hold L times the parameters, and one feature map more for backward with each layer."""
    profiles, line = measured.profiles, measured.retained
    map_bytes = measured.sizes.batch * measured.sizes.width * _FLOAT64_BYTES
    layer_bytes = profiles[1].parameter_bytes
    return Claim(
        "L linear layers hold L times the parameters of one, and retain one feature map more per layer",
        {
            "parameters": all(p.parameter_bytes == depth * layer_bytes for depth, p in profiles.items()),
            "retained activations": round(line.slope) == map_bytes and line.is_straight,
        },
        f"{line.slope:,.0f} bytes retained per layer (R² {line.r_squared:.6f}); a feature map has {map_bytes:,} bytes",
        {
            "parameter_bytes_by_depth": keyed({d: p.parameter_bytes for d, p in profiles.items()}),
            "retained_bytes_by_depth": keyed({d: p.retained_bytes for d, p in profiles.items()}),
            "fit": asdict(line),
            "feature_map_bytes": map_bytes,
        },
        Origin.CORRECTION,
    )
