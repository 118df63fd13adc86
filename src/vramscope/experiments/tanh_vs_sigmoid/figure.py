"""The answer in a sentence and in a picture."""

import numpy as np

from vramscope.experiments.tanh_vs_sigmoid.claims_on_learning import (
    judge_centring,
    judge_slope,
    judge_speed,
    median_epochs,
)
from vramscope.experiments.tanh_vs_sigmoid.identity import grid
from vramscope.experiments.tanh_vs_sigmoid.learning import FORMS, LEARNING_RATES, THRESHOLD
from vramscope.experiments.tanh_vs_sigmoid.measurement import Measured
from vramscope.findings import Claim, Panel, Picture, Series

_CAPTION = (
    "First: the loss while learning, averaged over seeds and drawn as far as all of them go; tanh + 1 is as steep as "
    "tanh but not centred, sigmoid - 1/2 is centred but as flat as sigmoid. Then both derivatives, whose ranges the "
    "source swapped; and the digits that tanh(z) + 1 loses for negative z, where 1 means all of them."
)
_EVERY = 40
"""Of the grid's points so many are passed over for each one drawn."""
_ERRORS_FROM, _ERRORS_UP_TO = -9.0, 3.0


def answer(measured: Measured) -> str:
    """The decisive numbers."""
    highest = {name: float(slope.max()) for name, slope in measured.derivatives.items()}
    slope, centre = (f"{sum(c.checks.values())} of {len(c.checks)}" for c in _causes(measured))
    return (
        f"They are one curve, shifted and stretched, but tanh's mean activation is "
        f"{measured.mean_activations['tanh'].mean:.2f}, sigmoid's {measured.mean_activations['sigmoid'].mean:.2f}, and "
        f"tanh's slope reaches {highest['tanh']:g}, sigmoid's {highest['sigmoid']:g}. "
        f"{judge_speed(measured).measured.capitalize()}. Changed alone, the larger slope was faster from every seed in "
        f"{slope} comparisons, the centre at 0 in {centre}."
    )


def _causes(measured: Measured) -> tuple[Claim, Claim]:
    return judge_slope(measured), judge_centring(measured)


def draw(measured: Measured) -> Picture:
    """Learning curves, derivatives, and what cancellation costs."""
    highest = {name: float(slope.max()) for name, slope in measured.derivatives.items()}
    tanh, sigmoid = (median_epochs(measured, LEARNING_RATES[0], name) for name in ("tanh", "sigmoid"))
    headline = (
        f"tanh is {highest['tanh'] / highest['sigmoid']:g} times as steep, and learns in {tanh} epochs, not {sigmoid} "
        f"(learning rate {LEARNING_RATES[0]})"
    )
    return Picture(headline, (_curves(measured), _slopes(measured), _errors(measured)), _CAPTION)


def _slopes(measured: Measured) -> Panel:
    shown = slice(None, None, _EVERY)
    z = tuple(grid()[shown].tolist())
    series = tuple(Series(f"{name}'", tuple(d[shown].tolist()), z) for name, d in measured.derivatives.items())
    return Panel("Derivatives", "z", "slope", series, levels={"1": 1.0, "1/4": 0.25}, markers=False)


def _errors(measured: Measured) -> Panel:
    """From where float32 has lost all digits to a little beyond 0, from where on all errors are of rounding."""
    series = []
    for name, identity in measured.identities.items():
        points = [
            (z, error)
            for z, error in zip(identity.bins, identity.relative_error, strict=True)
            if _ERRORS_FROM < z < _ERRORS_UP_TO
        ]
        series.append(Series(name, tuple(error for _, error in points), tuple(z for z, _ in points)))
    return Panel("Error of tanh(z) + 1", "z", "relative error", tuple(series), log_y=True, markers=False)


def _curves(measured: Measured) -> Panel:
    rate = LEARNING_RATES[0]
    series = tuple(_mean_curve(name, measured.losses[rate][name]) for name in FORMS)
    title = f"Learning, {len(measured.seeds)} seeds, learning rate {rate}"
    return Panel(title, "epoch", "loss (nats)", series, levels={"threshold": THRESHOLD}, markers=False)


def _mean_curve(name: str, by_seed: tuple[tuple[float, ...], ...]) -> Series:
    """As long as the shortest: beyond it the mean would be of fewer seeds."""
    shortest = min(map(len, by_seed))
    mean = np.array([curve[:shortest] for curve in by_seed]).mean(axis=0)
    return Series(name, tuple(mean.tolist()), tuple(map(float, range(shortest))))
