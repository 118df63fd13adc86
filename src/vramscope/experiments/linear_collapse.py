"""Is a deep network without activation functions one linear layer? In function yes, in memory no."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import Line, fit_line
from vramscope.experiments.frame import Announce, Experiment, Settings
from vramscope.experiments.profiled import Profiled, Subject, profile_training, stack_of
from vramscope.findings import Claim, Origin, Panel, PanelKind, Picture, Series
from vramscope.ledger.summary import PassSummary
from vramscope.units import format_size
from vramscope.workloads.workload import Workload

TOLERANCE = 1e-10
"""Largest relative error, in float64, at which two forms of a network count as equal."""
LEAST_DIFFERENCE = 0.01
"""Smallest relative error at which the best single layer counts as a different function."""
CONTROLS: Mapping[str, Callable[[], nn.Module]] = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
_SAMPLES_PER_INPUT = 16
_FLOAT64_BYTES = 8


@dataclass(frozen=True)
class Sizes:
    """Of the networks: depths in layers, width in features, batch in samples."""

    depths: tuple[int, ...]
    width: int
    batch: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """By depth: relative errors (largest over seeds for equality, smallest for the controls), and profiled passes."""

    sizes: Sizes
    collapse_errors: Mapping[int, float]
    control_errors: Mapping[str, Mapping[int, float]]
    profiles: Mapping[int, Profiled]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass of every depth."""
        return {f"training, {depth} layers": profile.summary for depth, profile in self.profiles.items()}

    @property
    def retained(self) -> Line:
        """Retained bytes against depth."""
        return fit_line(list(self.profiles), [profile.retained_bytes for profile in self.profiles.values()])


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting; one layer is there to compare memory with."""
    depths = settings.choose((1, 2, 8, 32), (1, 2, 4, 8, 16, 32))
    return Sizes(depths, settings.choose(16, 64), settings.choose(32, 256), settings.seeds(settings.choose(2, 5)))


def build_network(width: int, layers: int, activation: Callable[[], nn.Module] | None = None) -> nn.Sequential:
    """Square linear layers in float64, with an activation function between them or none.

    Orthogonal weights keep a signal's length through any depth, so that no layer can be neglected.
    """
    modules: list[nn.Module] = []
    for index in range(layers):
        linear = nn.Linear(width, width, dtype=torch.float64)
        nn.init.orthogonal_(linear.weight)
        modules += [activation(), linear] if activation is not None and index else [linear]
    return nn.Sequential(*modules)


def collapse(network: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight ``[out, in]`` and bias ``[out]`` of the one layer that equals a network of linear layers.

    From W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), applied from the first layer to the last.
    """
    layers = [module for module in network if isinstance(module, nn.Linear)]
    weight: Tensor = layers[0].weight
    bias: Tensor = layers[0].bias
    for layer in layers[1:]:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    return weight, bias


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The length of the difference over the length of ``actual``."""
    return float((actual - expected).norm() / actual.norm())


@torch.no_grad()
def collapse_error(sizes: Sizes, layers: int, seed: int) -> float:
    """How far a linear network is from its collapsed form, relative to its output."""
    torch.manual_seed(seed)
    network = build_network(sizes.width, layers)
    inputs = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
    return relative_error(network(inputs), functional.linear(inputs, *collapse(network)))


@torch.no_grad()
def best_layer_error(sizes: Sizes, layers: int, seed: int, activation: Callable[[], nn.Module]) -> float:
    """How far a network with activation functions is from the best of all single layers, by least squares.

    Relative to how much the output varies: a deep network's output may be large and almost constant.
    """
    torch.manual_seed(seed)
    network = build_network(sizes.width, layers, activation)
    inputs = torch.randn(_SAMPLES_PER_INPUT * sizes.width, sizes.width, dtype=torch.float64)
    outputs = network(inputs)
    with_bias = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    # the default driver's last digits depend on where its buffers lie, and differ from run to run
    error = outputs - with_bias @ torch.linalg.lstsq(with_bias, outputs, driver="gels").solution
    return float(error.norm() / (outputs - outputs.mean(dim=0)).norm())


def _subject(sizes: Sizes, layers: int) -> Subject:
    def build() -> Workload:
        inputs = torch.randn(sizes.batch, sizes.width, dtype=torch.float64)
        return Workload(build_network(sizes.width, layers), inputs, functional.mse_loss, torch.zeros_like(inputs))

    return Subject(f"{layers} linear layers", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Compare every depth with one layer, in function and in memory."""
    sizes = sizes_of(settings)
    collapse_errors: dict[int, float] = {}
    controls: dict[str, dict[int, float]] = {name: {} for name in CONTROLS}
    profiles: dict[int, Profiled] = {}
    for depth in sizes.depths:
        announce(f"linear-collapse: {depth} layers")
        collapse_errors[depth] = max(collapse_error(sizes, depth, seed) for seed in sizes.seeds)
        profiles[depth] = profile_training(_subject(sizes, depth), settings)
        for name, activation in CONTROLS.items() if depth > 1 else ():
            errors = [best_layer_error(sizes, depth, seed, activation) for seed in sizes.seeds]
            controls[name][depth] = min(errors)
    return Measured(sizes, collapse_errors, controls, profiles)


def judge_collapse(measured: Measured, tolerance: float = TOLERANCE) -> Claim:
    """The source's identity, at every depth."""
    errors = measured.collapse_errors
    return Claim(
        "A network of linear layers without activation functions is one linear layer: W2(W1 x + b1) + b2 = W'x + b'",
        {f"{depth} layers": error <= tolerance for depth, error in errors.items() if depth > 1},
        f"relative error at most {max(errors.values()):.1e} in float64, at up to {max(errors)} layers",
        {"largest_relative_error_by_depth": _keyed(errors), "tolerance": tolerance, "seeds": measured.sizes.seeds},
    )


def judge_control(measured: Measured, least: float = LEAST_DIFFERENCE) -> Claim:
    """With an activation function the best single layer is still another function."""
    errors = measured.control_errors
    lowest = {name: min(by_depth.values()) for name, by_depth in errors.items()}
    return Claim(
        "With an activation function between the layers no single linear layer does the same",
        {f"{name}, {d} layers": error >= least for name, by_depth in errors.items() for d, error in by_depth.items()},
        "the best single layer is off by at least " + " and ".join(f"{e:.0%} ({n})" for n, e in lowest.items()),
        {"best_layer_relative_error": {name: _keyed(e) for name, e in errors.items()}, "least_difference": least},
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
        {"training_peak_bytes_by_depth": _keyed({d: p.summary.peak.bytes for d, p in measured.profiles.items()})},
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
            "retained activations": round(line.slope) == map_bytes and line.r_squared > 0.999,
        },
        f"{line.slope:,.0f} bytes retained per layer (R² {line.r_squared:.6f}); a feature map has {map_bytes:,} bytes",
        {
            "parameter_bytes_by_depth": _keyed({d: p.parameter_bytes for d, p in profiles.items()}),
            "retained_bytes_by_depth": _keyed({d: p.retained_bytes for d, p in profiles.items()}),
            "fit": asdict(line),
            "feature_map_bytes": map_bytes,
        },
        Origin.CORRECTION,
    )


def _keyed(by_depth: Mapping[int, float]) -> dict[str, float]:
    """With the keys that JSON has."""
    return {str(depth): value for depth, value in by_depth.items()}


def _answer(measured: Measured) -> str:
    depth = max(measured.profiles)
    error = max(measured.collapse_errors.values())
    return (
        f"Yes: {depth} linear layers equal one layer to {error:.0e} of the output. "
        f"They compute nothing more, but training them takes {_cost(measured):.0f} times the memory."
    )


def _cost(measured: Measured) -> float:
    """The deepest network's peak in training over that of one layer."""
    return measured.profiles[max(measured.profiles)].summary.peak.bytes / measured.profiles[1].summary.peak.bytes


def _draw(measured: Measured) -> Picture:
    headline = f"{max(measured.profiles)} linear layers do what one does, for {_cost(measured):.0f} times the memory"
    return Picture(headline, (_errors(measured), _memory(measured)))


def _errors(measured: Measured) -> Panel:
    curves = {"no activation": {d: e for d, e in measured.collapse_errors.items() if d > 1}, **measured.control_errors}
    return Panel(
        "How far the network is from one linear layer",
        "depth (layers)",
        "relative error",
        tuple(Series(name, tuple(e.values()), tuple(map(float, e))) for name, e in curves.items()),
        levels={"equal in float64": TOLERANCE},
        log_x=True,
        log_y=True,
    )


def _memory(measured: Measured) -> Panel:
    peaks = [profile.summary.peak.by_category for profile in measured.profiles.values()]
    return Panel(
        "Memory at the peak of a training step",
        "depth (layers)",
        "allocated memory (KiB)",
        stack_of(peaks, [1024.0] * len(peaks)),
        PanelKind.STACK,
        names=tuple(map(str, measured.profiles)),
    )


EXPERIMENT = Experiment(
    name="linear-collapse",
    question="Is a deep network without activation functions one linear layer?",
    measure=measure,
    rules=(judge_collapse, judge_control, judge_nothing_changes, judge_memory),
    answer=_answer,
    draw=_draw,
    count=lambda settings: len(sizes_of(settings).depths),
)
