"""The answer in a sentence and in a picture."""

import torch
from torch import Tensor

from vramscope.experiments.evidence import series_of
from vramscope.experiments.vanishing_gradients.claims import SIGMOID_LIMIT, output_norms
from vramscope.experiments.vanishing_gradients.measurement import Measured
from vramscope.experiments.vanishing_gradients.networks import ACTIVATIONS
from vramscope.findings import Panel, PanelKind, Picture, Series

_CAPTION = (
    "First: the gradient at each layer of the deepest network, as a share of what the last layer gets; read from "
    "right to left, as backward goes. Then the factor per layer that fits it, at every depth, over seeds; and what "
    "autograd keeps for each activation function."
)


def answer(measured: Measured) -> str:
    """The decisive numbers."""
    deepest = max(measured.fitted_depths)
    means = {name: measured.factors(name, deepest, output_norms).mean for name in ACTIVATIONS}
    return (
        f"They starve the first layers: in {deepest} sigmoid layers each leaves {means['sigmoid']:.2f} of the gradient "
        f"it gets, where tanh leaves {means['tanh']:.2f} and ReLU {means['ReLU']:.2f} with the same weights."
    )


def draw(measured: Measured) -> Picture:
    """Gradients by layer, the fitted factors, and memory."""
    deepest = max(measured.fitted_depths)
    factor = measured.factors("sigmoid", deepest, output_norms).mean
    headline = f"In {deepest} layers each sigmoid passes on {factor:.0%} of the gradient it gets"
    return Picture(headline, (_by_layer(measured, deepest), _by_depth(measured), _memory(measured)), _CAPTION)


def _by_layer(measured: Measured, depth: int) -> Panel:
    curves = {}
    for name in ACTIVATIONS:
        logs = torch.tensor([found.outputs for found in measured.gradients[name][depth]], dtype=torch.float64).log()
        curves[name] = (logs - logs[:, -1:]).exp()  # relative to the last layer
    layers = tuple(float(layer + 1) for layer in range(depth))
    return Panel(
        f"Gradient at each of {depth} layers",
        "layer (1 is next to the input)",
        "gradient norm / last layer's",
        tuple(_band(name, layers, curve) for name, curve in curves.items()),
        log_y=True,
        markers=False,
    )


def _band(label: str, x: tuple[float, ...], by_seed: Tensor) -> Series:
    """The geometric mean over seeds, between the extremes."""
    low, high = by_seed.min(dim=0).values, by_seed.max(dim=0).values
    return Series(label, tuple(by_seed.log().mean(dim=0).exp().tolist()), x, tuple(low.tolist()), tuple(high.tolist()))


def _by_depth(measured: Measured) -> Panel:
    x = tuple(map(float, measured.fitted_depths))
    series = [
        series_of(name, [measured.factors(name, depth, output_norms) for depth in measured.fitted_depths], x)
        for name in ACTIVATIONS
    ]
    levels = {"unchanged": 1.0, f"sigmoid' ≤ {SIGMOID_LIMIT}": SIGMOID_LIMIT}
    return Panel("Fitted factor per layer", "depth (layers)", "factor per layer", tuple(series), levels=levels)


def _memory(measured: Measured) -> Panel:
    sizes = tuple(profile.retained_bytes / 1024 for profile in measured.profiles.values())
    title = f"Kept for backward, {measured.sizes.profiled_depth} layers"
    series = (Series("retained activations", sizes),)
    return Panel(title, "activation function", "retained (KiB)", series, PanelKind.BARS, tuple(measured.profiles))
