"""The answer in a sentence and in a picture."""

from collections.abc import Callable

from vramscope.experiments.evidence import series_of
from vramscope.experiments.fits import Spread
from vramscope.experiments.overfitting.claims import REMEDIES, known, unknown
from vramscope.experiments.overfitting.measurement import Measured
from vramscope.experiments.overfitting.recipes import BASELINE, RECIPES, SEEDS
from vramscope.experiments.overfitting.training import Outcome
from vramscope.experiments.profiled import peaks_panel
from vramscope.findings import Panel, PanelKind, Picture

_CAPTION = (
    "First: how much of its training data a network recognises, and how much of new data, which is what counts. "
    "Then the gap between the losses on both. Bars are means over seeds, whiskers the extremes. Last: what a training "
    "step holds at its fullest moment with each remedy."
)


def answer(measured: Measured) -> str:
    """The decisive numbers: which remedies narrow the gap, and which of them help on new data."""
    gap, accuracy = measured.gaps(BASELINE).mean, measured.accuracies(BASELINE).mean
    narrower = {n: f"{measured.gaps(n).mean:.2f}" for n in REMEDIES if measured.gaps(n).mean < gap}
    always = sum(measured.narrows_every_gap(name) for name in narrower)
    return (
        f"{len(narrower)} of {len(REMEDIES)} remedies narrow the mean gap of {gap:.2f} nats between new and known "
        f"data ({_listed(narrower)}), {always} of them with every seed. Without any, {accuracy:.1%} of new "
        f"data are recognised; clearly more with {_listed(_changed(measured, 1))}, clearly fewer with "
        f"{_listed(_changed(measured, -1))} (clearly: the 95% interval of the change leaves out 0). "
        f"{_narrowest(measured)}"
    )


def _changed(measured: Measured, sign: int) -> dict[str, str]:
    """The remedies whose accuracy on new data changed in this direction, beyond the 95 % interval."""
    return {
        name: f"{measured.accuracies(name).mean:.1%}"
        for name in REMEDIES
        if measured.change(name, lambda outcome: sign * unknown(outcome)).is_positive
    }


def _listed(figures: dict[str, str]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items()) or "none"


def _narrowest(measured: Measured) -> str:
    """What the narrowest gap is worth: how far its network is from naming the commoner class always."""
    name = min(REMEDIES, key=lambda remedy: measured.gaps(remedy).mean)
    commoner = measured.spread(name, lambda outcome: outcome.commoner).mean
    above = measured.spread(name, lambda outcome: outcome.test_accuracy - outcome.commoner)
    verdict = "clearly more" if above.is_positive else "not clearly more"
    return (
        f"The narrowest gap is that of {name}, which recognises {measured.accuracies(name).mean:.1%}: {verdict} than "
        f"naming the commoner class every time would ({commoner:.1%})."
    )


def draw(measured: Measured) -> Picture:
    """Accuracies, gaps and memory."""
    gap = measured.gaps(BASELINE).mean
    narrower = sum(measured.gaps(name).mean < gap for name in REMEDIES)
    better = ", ".join(_changed(measured, 1)) or "none"
    headline = f"{narrower} of {len(REMEDIES)} remedies narrow the mean gap; clearly better on new data: {better}"
    return Picture(headline, (_accuracy(measured), _gaps(measured), peaks_panel("remedy", measured.profiles)), _CAPTION)


def _gaps(measured: Measured) -> Panel:
    series = (series_of("mean and extremes", [measured.gaps(name) for name in RECIPES]),)
    return Panel("Test loss - train loss", "remedy", "gap (nats)", series, PanelKind.BARS, tuple(RECIPES))


def _accuracy(measured: Measured) -> Panel:
    series = tuple(
        series_of(label, [_percent(measured, name, of) for name in RECIPES])
        for label, of in (("known data", known), ("new data", unknown))
    )
    title = f"Accuracy, {SEEDS} seeds"
    return Panel(title, "remedy", "accuracy (%)", series, PanelKind.BARS, tuple(RECIPES))


def _percent(measured: Measured, name: str, of: Callable[[Outcome], float]) -> Spread:
    return measured.spread(name, lambda outcome: 100 * of(outcome))
