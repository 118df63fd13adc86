"""The answer in a sentence and in a picture."""

from vramscope.experiments.linear_collapse.claims import TOLERANCE, judge_collapse
from vramscope.experiments.linear_collapse.measurement import LINEAR, Measured
from vramscope.experiments.profiled import peaks_panel
from vramscope.findings import Panel, Picture, Series, Verdict

_CAPTION = (
    "Left: how far a network is from one linear layer. Without activation functions: from the layer that its layers "
    "multiply to, as a share of the output; what is left is rounding. With them: from the layer that fits best, as a "
    "share of how much the output varies. Right: what training holds at its fullest moment."
)


def answer(measured: Measured) -> str:
    """The decisive numbers."""
    depth = max(measured.profiles)
    error = max(measured.collapse_errors.values())
    verdict = {Verdict.HOLDS: "Yes", Verdict.PARTLY: "Partly", Verdict.FAILS: "No"}[judge_collapse(measured).verdict]
    return (
        f"{verdict}: {depth} linear layers and the one layer they multiply to differ by {error:.0e} of the output, "
        f"but training them takes {_cost(measured):.0f} times the memory."
    )


def _cost(measured: Measured) -> float:
    """The deepest network's peak in training over that of one layer."""
    return measured.profiles[max(measured.profiles)].summary.peak.bytes / measured.profiles[1].summary.peak.bytes


def draw(measured: Measured) -> Picture:
    """How far from one layer, and at what cost."""
    headline = f"{max(measured.profiles)} linear layers do what one does, for {_cost(measured):.0f} times the memory"
    return Picture(headline, (_errors(measured), peaks_panel("depth (layers)", measured.profiles)), _CAPTION)


def _errors(measured: Measured) -> Panel:
    curves = {LINEAR: {d: e for d, e in measured.collapse_errors.items() if d > 1}}
    curves |= {name: measured.least_misfit(name) for name in measured.misfits if name != LINEAR}
    return Panel(
        "Distance from one linear layer",
        "depth (layers)",
        "relative error",
        tuple(Series(name, tuple(e.values()), tuple(map(float, e))) for name, e in curves.items()),
        levels={"counts as equal": TOLERANCE},
        log_x=True,
        log_y=True,
    )
