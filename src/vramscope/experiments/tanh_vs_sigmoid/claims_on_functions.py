"""What is claimed of the two functions themselves, judged."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from vramscope.experiments.tanh_vs_sigmoid.identity import POINTS, REACH
from vramscope.experiments.tanh_vs_sigmoid.measurement import Measured
from vramscope.findings import Claim, Origin

ALLOWED_EPS = 4.0
"""Largest difference of the identity's sides, and largest error of a careful side, in units of the dtype's eps."""
LEAST_GROWTH = math.exp(4) / 2
"""By what cancellation at least raises the relative error between z in [2, 3] and z in [-3, -2].

The sums there differ at least by sigmoid(4) / sigmoid(-4) = exp(4); and numbers in [1/2, 1), where the smaller tanh
lies, stand half as far apart as those in [1, 2), where the larger sum lies, so that rounding errors are up to half as
large."""
NEAR_ZERO = math.exp(-REACH)
"""What both derivatives must fall below within the reach: sigmoid'(z) = s (1 - s) < exp(-|z|), and tanh'(z) =
4 sigmoid'(2z) < 4 exp(-2|z|), which is less from |z| = ln 4 on."""


@dataclass(frozen=True)
class Range:
    """Of a derivative, (0, upper]: it comes close to 0 without reaching it, reaches ``upper`` and never exceeds it."""

    upper: float

    def describes(self, lowest: float, highest: float) -> bool:
        """Whether these extremes are of this range.

        No rounding is allowed for: at z = 0, which is measured, tanh is 0 and sigmoid 1/2 exactly, so that 1 - tanh²
        is 1 and s (1 - s) is 1/4 to the last bit, and rounding cannot lift a smaller value above either.
        """
        return 0 < lowest < NEAR_ZERO and highest == self.upper


MEASURABLE = {"tanh": Range(1.0), "sigmoid": Range(0.25)}
"""tanh' = 1 - tanh², largest at 0; sigmoid' = s (1 - s), largest at s = 1/2."""
AS_THE_SOURCE_HAS_THEM = {"tanh": Range(0.25), "sigmoid": Range(1.0)}


def judge_identity(measured: Measured) -> Claim:
    """The source's identity, in every dtype."""
    errors = {name: identity.error_in_eps for name, identity in measured.identities.items()}
    return Claim(
        "tanh(z) + 1 = 2 sigmoid(2z)",
        {name: error <= ALLOWED_EPS for name, error in errors.items()},
        f"largest difference for z in [{-REACH:g}, {REACH:g}], in units of eps: "
        + ", ".join(f"{name} {error:.2f}" for name, error in errors.items()),
        {"largest_difference_in_eps": errors, "allowed_eps": ALLOWED_EPS, "points": POINTS},
    )


def judge_cancellation(measured: Measured) -> Claim:
    """Equal in absolute terms, the sides are not equally good: 1 - (almost 1) loses digits that sigmoid keeps.

    tanh is off by up to eps / 2 (a unit in the last place just below 1), and adding 1 rounds by up to eps / 2: the sum
    is off by up to eps, whatever it is. Relative to the sum 2 sigmoid(2z) that is eps / (2 sigmoid(2z)).
    """
    found = measured.identities
    checks = {f"{name}: 2 sigmoid(2z) is accurate": i.careful_error_in_eps <= ALLOWED_EPS for name, i in found.items()}
    checks |= {f"{name}: tanh(z) + 1 loses digits below 0": i.growth >= LEAST_GROWTH for name, i in found.items()}
    checks |= {f"{name}: as cancellation predicts": i.bound_share <= 1 for name, i in found.items()}
    return Claim(
        "For negative z, tanh(z) + 1 loses relative accuracy by cancellation, up to eps / (2 sigmoid(2z)); the other "
        "side does not",
        checks,
        ", ".join(f"{name} error x{identity.growth:.0f}" for name, identity in found.items())
        + " from z = 2.5 to z = -2.5",
        {name: asdict(identity) for name, identity in found.items()},
        Origin.CORRECTION,
    )


def judge_ranges(
    measured: Measured, ranges: Mapping[str, Range] = MEASURABLE, origin: Origin = Origin.CORRECTION
) -> Claim:
    """Where the derivatives lie."""
    extremes = {name: (float(d.min()), float(d.max())) for name, d in measured.derivatives.items()}
    return Claim(
        "The derivatives lie in these ranges and reach their ends: "
        + ", ".join(f"{name}' in (0, {stated.upper:g}]" for name, stated in ranges.items()),
        {f"{name}'": ranges[name].describes(*extremes[name]) for name in ranges},
        ", ".join(f"{name}' from {low:.1e} to {high:.4f}" for name, (low, high) in extremes.items()),
        {
            name: {"lowest": low, "highest": high, "stated": ranges[name].upper}
            for name, (low, high) in extremes.items()
        },
        origin,
    )


def judge_source_ranges(measured: Measured) -> Claim:
    """The ranges as the source has them: it swapped the two functions."""
    return judge_ranges(measured, AS_THE_SOURCE_HAS_THEM, Origin.SOURCE)


def judge_chain_rule(measured: Measured) -> Claim:
    """What the identity says of the derivatives."""
    eps = torch.finfo(torch.float64).eps
    return Claim(
        "tanh'(z) = 4 sigmoid'(2z): at 0 tanh is four times as steep",
        {"equal in float64": measured.derivative_error <= ALLOWED_EPS * eps},
        f"largest difference {measured.derivative_error / eps:.2f} eps",
        {"largest_difference": measured.derivative_error, "eps": eps},
        Origin.CORRECTION,
    )
