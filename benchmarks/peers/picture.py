"""The growth curves as pictures, on logarithmic axes: a straight line of slope 1 is a linear cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_growth(path: Path, curves: Sequence[Mapping[str, Any]]) -> None:
    """One picture of the curves over the same counts, with a linear cost for comparison."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        axes.loglog(curve["counts"], curve["seconds"], marker="o", label=f"{curve['of']}, slope {curve['slope']:.2f}")
    steepest = max(curves, key=lambda curve: curve["seconds"][-1])
    last, top = steepest["counts"][-1], steepest["seconds"][-1]
    counts = steepest["counts"]
    axes.loglog(counts, [top * count / last for count in counts], "--", color="grey", label="linear")
    axes.set_xlabel(curves[0]["over"])
    axes.set_ylabel("seconds")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
