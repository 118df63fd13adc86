"""What do too many sigmoid layers do? Gradients through deep networks, by activation function."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import Spread, fit_line, spread_of
from vramscope.experiments.frame import Announce, Experiment, Settings
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.findings import Claim, Origin, Panel, PanelKind, Picture, Series
from vramscope.ledger.summary import PassSummary
from vramscope.units import format_size
from vramscope.workloads.workload import Workload

SIGMOID_LIMIT = 0.25
"""The largest derivative of the sigmoid, s (1 - s) at s = 1/2."""
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
OTHERS_IN_MEMORY: Mapping[str, Callable[[], nn.Module]] = {"GELU": nn.GELU}
"""Profiled beside the three: its derivative needs its input, theirs need only their output."""
LEARNS_NOTHING = 0.01
"""A first layer that changes by less than this share of what the last one changes is said not to learn."""
COSTLY = 1.5
"""An activation function that takes this many times as long as ReLU is said to be costly."""
_CLASSES = 10
_ROUNDING = 1 + 1e-9
_FEWEST_TO_FIT = 3
_TIMED_ELEMENTS = 1 << 14  # 64 KiB of float32: in the cache, so that arithmetic is timed and not memory
_TIMED_CALLS, _TIMED_REPEATS = 50, 40


@dataclass(frozen=True)
class Sizes:
    """Of the networks: depths in layers, width in features, batch in samples; and the depth that is profiled."""

    depths: tuple[int, ...]
    width: int
    batch: int
    seeds: tuple[int, ...]
    profiled_depth: int


@dataclass(frozen=True)
class Gradients:
    """Norms in one network, by layer from the input on.

    Attributes:
        outputs: of the loss's gradient with respect to each layer's output.
        weights: of the loss's gradient with respect to each layer's weight.
        relative_changes: of each weight in a plain step, over the weight's own norm and the learning rate.
        spectral: largest singular value of each layer's weight.
    """

    outputs: tuple[float, ...]
    weights: tuple[float, ...]
    relative_changes: tuple[float, ...]
    spectral: tuple[float, ...]

    def shrinks(self) -> Iterator[tuple[float, float]]:
        """For every layer but the first: by what it multiplies the gradient's norm, and its weight's spectral norm."""
        for layer in range(1, len(self.outputs)):
            yield self.outputs[layer - 1] / self.outputs[layer], self.spectral[layer]


@dataclass(frozen=True)
class Measured:
    """Gradients by activation function and depth, one entry per seed; profiled passes; seconds per call."""

    sizes: Sizes
    gradients: Mapping[str, Mapping[int, tuple[Gradients, ...]]]
    profiles: Mapping[str, Profiled]
    seconds: Mapping[str, float]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with every activation function."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}

    @property
    def fitted_depths(self) -> tuple[int, ...]:
        """Depths with enough layers to fit a line through."""
        return tuple(depth for depth in self.sizes.depths if depth >= _FEWEST_TO_FIT)

    def factors(self, activation: str, depth: int, of: Callable[[Gradients], Sequence[float]]) -> Spread:
        """By what a layer multiplies a norm on the way to the input: a fit of its logarithm per network."""
        return spread_of([shrink_factor(of(gradients)) for gradients in self.gradients[activation][depth]])


def shrink_factor(norms: Sequence[float]) -> float:
    """The factor per layer, towards the input, of the exponential that fits norms given from the input on."""
    return math.exp(-fit_line(range(len(norms)), [math.log(norm) for norm in norms]).slope)


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    return Sizes(
        depths=settings.choose((2, 5, 20), (2, 5, 10, 20, 50)),
        width=settings.choose(32, 64),
        batch=settings.choose(32, 128),
        seeds=settings.seeds(settings.choose(3, 5)),
        profiled_depth=settings.choose(5, 20),
    )


def build_network(sizes: Sizes, depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Layers of equal width, each with the activation function, and a linear head; the same weights for a seed.

    Glorot's normal initialisation (Glorot and Bengio, 2010), for all activation functions alike.
    """
    layers = [nn.Linear(sizes.width, sizes.width) for _ in range(depth)]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
    blocks = [nn.Sequential(layer, activation()) for layer in layers]
    return nn.Sequential(*blocks, nn.Linear(sizes.width, _CLASSES))


def measure_gradients(sizes: Sizes, depth: int, activation: Callable[[], nn.Module], seed: int) -> Gradients:
    """One backward pass in float64, which has room for gradients that float32 would round to 0."""
    torch.manual_seed(seed)
    network = build_network(sizes, depth, activation).double()
    hidden = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
    outputs: list[Tensor] = []
    *blocks, head = network
    for block in blocks:
        hidden = block(hidden)
        outputs.append(hidden)
    loss = functional.cross_entropy(head(hidden), torch.arange(sizes.batch) % _CLASSES)
    weights = [parameter for block in blocks for parameter in block.parameters() if parameter.ndim == 2]
    gradients = torch.autograd.grad(loss, [*outputs, *weights])
    of_outputs, of_weights = gradients[:depth], gradients[depth:]
    return Gradients(
        outputs=tuple(float(gradient.norm()) for gradient in of_outputs),
        weights=tuple(float(gradient.norm()) for gradient in of_weights),
        relative_changes=tuple(float(g.norm() / w.detach().norm()) for g, w in zip(of_weights, weights, strict=True)),
        spectral=tuple(float(torch.linalg.matrix_norm(weight.detach(), ord=2)) for weight in weights),
    )


def _subject(sizes: Sizes, name: str, activation: Callable[[], nn.Module]) -> Subject:
    def build() -> Workload:
        inputs = torch.randn(sizes.batch, sizes.width)
        network = build_network(sizes, sizes.profiled_depth, activation)
        return Workload(network, inputs, functional.cross_entropy, torch.arange(sizes.batch) % _CLASSES)

    return Subject(f"{sizes.profiled_depth} {name} layers", build)


def seconds_per_call(function: Callable[[], object], device: str) -> float:
    """The shortest of many measurements, which other work on the machine disturbs least."""
    shortest = math.inf
    for _ in range(_TIMED_REPEATS):
        begin = time.perf_counter()
        for _ in range(_TIMED_CALLS):
            function()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest / _TIMED_CALLS


def _time_functions(settings: Settings) -> dict[str, float]:
    values = torch.linspace(-4, 4, _TIMED_ELEMENTS, device=settings.device)
    result = torch.empty_like(values)
    functions: dict[str, Callable[[], object]] = {
        "ReLU": lambda: torch.clamp_min(values, 0, out=result),
        "exp": lambda: torch.exp(values, out=result),
        "sigmoid": lambda: torch.sigmoid(values, out=result),
        "tanh": lambda: torch.tanh(values, out=result),
    }
    return {name: seconds_per_call(function, settings.device) for name, function in functions.items()}


def measure(settings: Settings, announce: Announce) -> Measured:
    """Gradients of every network, a profiled pass of one depth, and the time of the functions alone."""
    sizes = sizes_of(settings)
    gradients: dict[str, dict[int, tuple[Gradients, ...]]] = {}
    for name, activation in ACTIVATIONS.items():
        announce(f"vanishing-gradients: {name}, up to {max(sizes.depths)} layers")
        gradients[name] = {
            depth: tuple(measure_gradients(sizes, depth, activation, seed) for seed in sizes.seeds)
            for depth in sizes.depths
        }
    profiles = {}
    for name, activation in {**ACTIVATIONS, **OTHERS_IN_MEMORY}.items():
        announce(f"vanishing-gradients: memory with {name}")
        profiles[name] = profile_training(_subject(sizes, name, activation), settings)
    announce("vanishing-gradients: time of the functions")
    return Measured(sizes, gradients, profiles, _time_functions(settings))


def judge_bound(measured: Measured, limit: float = SIGMOID_LIMIT, activation: str = "sigmoid") -> Claim:
    """What follows from the largest derivative: g W' with |f'| at most ``limit`` is no longer than limit ||W|| |g|."""
    shares = {
        depth: max(ratio / (limit * spectral) for found in by_seed for ratio, spectral in found.shrinks())
        for depth, by_seed in measured.gradients[activation].items()
    }
    return Claim(
        f"A {activation} layer multiplies the gradient's norm by at most {limit} ||W||₂, on the way to the input",
        {f"{depth} layers": share <= _ROUNDING for depth, share in shares.items()},
        f"at most {max(shares.values()):.3f} of the bound, over all layers and {len(measured.sizes.seeds)} seeds",
        {"largest_share_of_bound_by_depth": _keyed(shares), "derivative_limit": limit},
    )


def judge_vanishing(measured: Measured) -> Claim:
    """The source's claim that gradients shrink towards the input, fitted apart for outputs and weights."""
    factors = {depth: measured.factors("sigmoid", depth, _outputs) for depth in measured.fitted_depths}
    weights = {depth: measured.factors("sigmoid", depth, _weights) for depth in measured.fitted_depths}
    deepest = max(factors)
    checks = {f"{depth} layers, outputs": spread.highest < 1 for depth, spread in factors.items()}
    checks |= {f"{depth} layers, weights": spread.highest < 1 for depth, spread in weights.items()}
    return Claim(
        "Through sigmoid layers gradients shrink towards the input, layer by layer",
        checks,
        f"at {deepest} layers by a factor of {factors[deepest].mean:.3f} ± {factors[deepest].deviation:.3f} per layer "
        f"(weight gradients {weights[deepest].mean:.3f})",
        {
            "factor_per_layer": {name: _factor_evidence(measured, name, _outputs) for name in ACTIVATIONS},
            "weight_gradient_factor_per_layer": {n: _factor_evidence(measured, n, _weights) for n in ACTIVATIONS},
        },
    )


def judge_activation_is_why(measured: Measured) -> Claim:
    """The control: the same network and weights with another activation function."""
    means = {
        name: {depth: measured.factors(name, depth, _outputs).mean for depth in measured.fitted_depths}
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
        {"mean_factor_per_layer": {name: _keyed(by_depth) for name, by_depth in means.items()}},
        Origin.CONTROL,
    )


def judge_last_layers(measured: Measured, activation: str = "sigmoid") -> Claim:
    """The source's "only the last layers learn": by what share of its norm a step changes each weight."""
    shares = {
        depth: max(found.relative_changes[0] / found.relative_changes[-1] for found in by_seed)
        for depth, by_seed in measured.gradients[activation].items()
    }
    return Claim(
        f"In a network of {activation} layers only the last layers learn",
        {f"{depth} layers: the first learns nothing": share < LEARNS_NOTHING for depth, share in shares.items()},
        "the first layer changes by this share of the last: "
        + ", ".join(f"{share:.0e} at {depth} layers" for depth, share in shares.items()),
        {"first_over_last_relative_change_by_depth": _keyed(shares), "threshold": LEARNS_NOTHING},
    )


def judge_cost(measured: Measured) -> Claim:
    """The source's "exp makes it costly": the functions alone, on values that lie in the cache."""
    relu = measured.seconds["ReLU"]
    ratios = {f"{name} over ReLU": value / relu for name, value in measured.seconds.items() if name != "ReLU"}
    return Claim(
        "exp makes the sigmoid costly to compute",
        {
            f"exp takes {COSTLY} times as long as ReLU": ratios["exp over ReLU"] >= COSTLY,
            f"sigmoid takes {COSTLY} times as long as ReLU": ratios["sigmoid over ReLU"] >= COSTLY,
        },
        "the functions alone, as multiples of ReLU's time",
        {"elements": _TIMED_ELEMENTS, "costly_from": COSTLY},
        times=ratios,
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


def _outputs(gradients: Gradients) -> tuple[float, ...]:
    return gradients.outputs


def _weights(gradients: Gradients) -> tuple[float, ...]:
    return gradients.weights


def _factor_evidence(
    measured: Measured, name: str, of: Callable[[Gradients], Sequence[float]]
) -> dict[str, dict[str, float]]:
    return {str(depth): asdict(measured.factors(name, depth, of)) for depth in measured.fitted_depths}


def _keyed(by_depth: Mapping[int, float]) -> dict[str, float]:
    """With the keys that JSON has."""
    return {str(depth): value for depth, value in by_depth.items()}


def _answer(measured: Measured) -> str:
    deepest = max(measured.fitted_depths)
    means = {name: measured.factors(name, deepest, _outputs).mean for name in ACTIVATIONS}
    return (
        f"They starve the first layers: in {deepest} sigmoid layers each leaves {means['sigmoid']:.2f} of the gradient "
        f"it gets, where tanh leaves {means['tanh']:.2f} and ReLU {means['ReLU']:.2f} with the same weights."
    )


def _draw(measured: Measured) -> Picture:
    deepest = max(measured.fitted_depths)
    factor = measured.factors("sigmoid", deepest, _outputs).mean
    headline = f"Each sigmoid layer passes on {factor:.0%} of the gradient; after {deepest} of them little is left"
    return Picture(headline, (_by_layer(measured, deepest), _by_depth(measured), _memory(measured)))


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
    series = []
    for name in ACTIVATIONS:
        spreads = [measured.factors(name, depth, _outputs) for depth in measured.fitted_depths]
        low, high = tuple(s.lowest for s in spreads), tuple(s.highest for s in spreads)
        x = tuple(map(float, measured.fitted_depths))
        series.append(Series(name, tuple(s.mean for s in spreads), x, low, high))
    levels = {"unchanged": 1.0, "sigmoid' ≤ 0.25": SIGMOID_LIMIT}
    return Panel("Fitted factor per layer", "depth (layers)", "factor per layer", tuple(series), levels=levels)


def _memory(measured: Measured) -> Panel:
    sizes = tuple(profile.retained_bytes / 1024 for profile in measured.profiles.values())
    title = f"Kept for backward, {measured.sizes.profiled_depth} layers"
    series = (Series("retained activations", sizes),)
    return Panel(title, "activation function", "retained (KiB)", series, PanelKind.BARS, tuple(measured.profiles))


EXPERIMENT = Experiment(
    name="vanishing-gradients",
    question="What do too many sigmoid layers do?",
    measure=measure,
    rules=(judge_bound, judge_vanishing, judge_activation_is_why, judge_last_layers, judge_cost, judge_memory),
    answer=_answer,
    draw=_draw,
    count=lambda _: len(ACTIVATIONS) + len(ACTIVATIONS) + len(OTHERS_IN_MEMORY) + 1,
)
