"""The answer in a sentence and in a picture."""

import itertools
import sys

from vramscope.experiments.gradient_descent.descent import MINUS, PLUS, STABLE, TOO_LARGE, Run
from vramscope.experiments.gradient_descent.measurement import LABELS, Measured
from vramscope.experiments.gradient_descent.memory import state_words
from vramscope.findings import Panel, PanelKind, Picture, Series
from vramscope.ledger.categories import Category

_ROUNDING = 4 * sys.float_info.epsilon


def answer(measured: Measured) -> str:
    """The decisive numbers."""
    runs = measured.runs["logistic regression"]
    down, up = runs[MINUS, STABLE], runs[PLUS, STABLE]
    return (
        f"It makes the step go downhill: with minus the loss of a logistic regression falls from {down.losses[0]:.2f} "
        f"to {down.losses[-1]:.2f}, with plus it rises to {up.losses[-1]:.3g}. The step itself may need memory: "
        f"{', '.join(f'{LABELS[n]} {state_words(p.state_bytes(), p)}' for n, p in measured.profiles.items())}."
    )


def draw(measured: Measured) -> Picture:
    """Losses of both problems, and the optimizers' memory."""
    panels = [_losses(measured, name) for name in measured.runs]
    runs = measured.runs["quadratic"]
    down, up = runs[MINUS, STABLE].losses, runs[PLUS, STABLE].losses
    headline = f"From a loss of {down[0]:.1f} the minus sign leads to {down[-1]:.1g}, the plus sign to {up[-1]:.0g}"
    return Picture(headline, (*panels, _copies(measured)), _caption(measured))


def _caption(measured: Measured) -> str:
    """With what became of the longer step on each problem, which differs: only the quadratic's curvature is exact."""
    longer = {name: runs[MINUS, TOO_LARGE].losses for name, runs in measured.runs.items()}
    fate = ", ".join(f"{'falls' if run[-1] < run[0] else 'rises'} ({name})" for name, run in longer.items())
    return (
        "First two panels: how far the loss is above the least one possible, step by step, with the minus and with "
        f"the plus sign. With the minus sign and a step {TOO_LARGE / STABLE:g} times as long it {fate}. Last panel: "
        "what an optimizer's step needs, in copies of the parameters."
    )


def _losses(measured: Measured, name: str) -> Panel:
    labels = {(MINUS, STABLE): "minus", (PLUS, STABLE): "plus", (MINUS, TOO_LARGE): "minus, longer step"}
    series = [_curve(label, measured.runs[name][way], measured.minima[name]) for way, label in labels.items()]
    return Panel(name.capitalize(), "step", "loss above the least", tuple(series), log_y=True, markers=False)


def _curve(label: str, run: Run, minimum: float) -> Series:
    """Above the least loss, until what is left of the difference is rounding."""
    above = [loss - minimum for loss in run.losses]
    shown = tuple(itertools.takewhile(lambda height: height > _ROUNDING * max(1.0, abs(minimum)), above))
    return Series(label, shown, tuple(map(float, range(len(shown)))))


def _copies(measured: Measured) -> Panel:
    categories = (Category.OPTIMIZER_STATE, Category.OPTIMIZER_TEMPORARIES)
    series = tuple(
        Series(c.value, tuple(p.most_bytes(c) / p.parameter_bytes for p in measured.profiles.values()))
        for c in categories
    )
    names = tuple(LABELS[name] for name in measured.profiles)
    return Panel("Memory of the step", "optimizer", "copies of the parameters", series, PanelKind.STACK, names)
