"""tanh(z) + 1 = 2 sigmoid(2z): why then prefer tanh? The identity, the derivatives, and the speed of learning."""

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.fits import Spread, spread_of
from vramscope.experiments.frame import Announce, Experiment, Settings, one_thread
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.findings import Claim, Origin, Panel, Picture, Series
from vramscope.ledger.summary import PassSummary
from vramscope.units import format_size
from vramscope.workloads.workload import Workload

DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ALLOWED_EPS = 4.0
"""Largest difference of the identity's sides, and largest error of a careful side, in units of the dtype's eps."""
REACH = 12.0
"""The identity is tested for z in [-12, 12]."""
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
_POINTS = 4801  # odd, so that 0 is among them
_DRAWN_BINS = 24
_TIGHT = 1e-5
"""How near to its ends a range must be reached; sigmoid'(12) is 6e-6."""
_CENTRED = 0.1
_THRESHOLD, _ENOUGH = 0.2, 0.15
"""Losses, in nats: that networks race to, and at which they stop."""
_FEATURES, _HIDDEN, _LAYERS, _SAMPLES = 2, 16, 3, 128
_LEARNING_RATES = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Range:
    """Of a derivative: it comes close to 0 and never beyond ``upper``, which it reaches."""

    upper: float

    def describes(self, lowest: float, highest: float) -> bool:
        """Whether these extremes are of this range: positive, not beyond its end, and reaching it."""
        return 0 < lowest < _TIGHT and abs(highest - self.upper) <= _TIGHT


MEASURABLE = {"tanh": Range(1.0), "sigmoid": Range(0.25)}
"""tanh' = 1 - tanh², largest at 0; sigmoid' = s (1 - s), largest at s = 1/2."""
AS_THE_SOURCE_HAS_THEM = {"tanh": Range(0.25), "sigmoid": Range(1.0)}


@dataclass(frozen=True)
class Identity:
    """How far the two sides are apart in one dtype.

    Attributes:
        error_in_eps: largest |tanh(z) + 1 - 2 sigmoid(2z)|, in units of eps.
        careful_error_in_eps: largest relative error of 2 sigmoid(2z), in units of eps, where it can be represented.
        bound_share: largest relative error of tanh(z) + 1 over what cancellation allows: eps / (2 sigmoid(2z)).
        relative_error: largest relative error of tanh(z) + 1 in each bin of ``bins``, -12 to 12.
        bins: the bins' middles.
    """

    error_in_eps: float
    careful_error_in_eps: float
    bound_share: float
    relative_error: tuple[float, ...]
    bins: tuple[float, ...]

    @property
    def growth(self) -> float:
        """The relative error between -3 and -2 over that between 2 and 3."""
        return _around(self, -2.5) / _around(self, 2.5)


@dataclass(frozen=True)
class Measured:
    """Identities by dtype; derivatives by function; mean activations, epochs and losses by function, over seeds."""

    seeds: tuple[int, ...]
    identities: Mapping[str, Identity]
    derivatives: Mapping[str, Tensor]
    derivative_error: float
    mean_activations: Mapping[str, Spread]
    epochs: Mapping[float, Mapping[str, tuple[int | None, ...]]]
    most_epochs: int
    losses: Mapping[str, tuple[tuple[float, ...], ...]]
    profiles: Mapping[str, Profiled]

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with either function."""
        return {f"training, {name}": profile.summary for name, profile in self.profiles.items()}


def grid() -> Tensor:
    """Evenly spaced z in float64, 0 among them."""
    return torch.linspace(-REACH, REACH, _POINTS, dtype=torch.float64)


def measure_identity(dtype: torch.dtype, device: str) -> Identity:
    """Both sides in one dtype, against 2 / (1 + exp(-2z)) in extended precision."""
    z = grid().to(dtype)
    points = z.to(device)
    sum_side = (torch.tanh(points) + 1).cpu().double().numpy()
    careful_side = (2 * torch.sigmoid(2 * points)).cpu().double().numpy()
    exact = 2 / (1 + np.exp(-2 * z.double().numpy().astype(np.longdouble)))
    eps = torch.finfo(dtype).eps
    normal = exact >= 2 * torch.finfo(dtype).tiny  # below it a dtype has fewer digits
    relative = np.abs(sum_side - exact) / exact
    bins = np.clip(((z.double().numpy() + REACH) / (2 * REACH) * _DRAWN_BINS).astype(int), 0, _DRAWN_BINS - 1)
    return Identity(
        error_in_eps=float(np.max(np.abs(sum_side - careful_side)) / eps),
        careful_error_in_eps=float(np.max((np.abs(careful_side - exact) / exact)[normal]) / eps),
        bound_share=float(np.max(relative * exact) / eps),
        relative_error=tuple(float(relative[bins == number].max()) for number in range(_DRAWN_BINS)),
        bins=tuple(float((number + 0.5) / _DRAWN_BINS * 2 * REACH - REACH) for number in range(_DRAWN_BINS)),
    )


def _around(identity: Identity, z: float) -> float:
    return identity.relative_error[identity.bins.index(z)]


def derivative(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """By autograd, at every z."""
    points = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(points).sum(), points)
    return slope


def build_network(activation: Callable[[], nn.Module]) -> nn.Sequential:
    """A small classifier; the same weights for a seed whatever the activation function."""
    widths = [_FEATURES, *[_HIDDEN] * _LAYERS]
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*(nn.Sequential(layer, activation()) for layer in layers), nn.Linear(_HIDDEN, 2))


def draw_classes() -> tuple[Tensor, Tensor]:
    """Points ``[samples, 2]`` around 0, and whether each lies on one side of a curve."""
    points = torch.randn(_SAMPLES, _FEATURES)
    return points, (points[:, 1] > torch.sin(2 * points[:, 0])).long()


def train(activation: Callable[[], nn.Module], seed: int, rate: float, epochs: int) -> tuple[float, ...]:
    """The loss before each full-batch gradient step, until it is small enough or the epochs are over."""
    torch.manual_seed(seed)
    network, (points, classes) = build_network(activation), draw_classes()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    losses: list[float] = []
    while len(losses) < epochs and (not losses or losses[-1] >= _ENOUGH):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(points), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return tuple(losses)


def epochs_until(losses: tuple[float, ...], threshold: float = _THRESHOLD) -> int | None:
    """The first epoch whose loss is below a threshold; None where none is."""
    return next((epoch for epoch, loss in enumerate(losses) if loss < threshold), None)


@torch.no_grad()
def mean_activation(activation: Callable[[], nn.Module], seed: int) -> float:
    """Of all hidden units of an untrained network, over inputs that are centred at 0."""
    torch.manual_seed(seed)
    network, (hidden, _) = build_network(activation), draw_classes()
    means = []
    for block in list(network)[:-1]:
        hidden = block(hidden)
        means.append(float(hidden.mean()))
    return statistics.fmean(means)


def _subject(name: str, activation: Callable[[], nn.Module]) -> Subject:
    def build() -> Workload:
        points, classes = draw_classes()
        return Workload(build_network(activation), points, functional.cross_entropy, classes)

    return Subject(f"{name} classifier", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """The identity, the derivatives, and training with either function from the same weights."""
    announce("tanh-vs-sigmoid: identity and derivatives")
    seeds, most = settings.seeds(5), settings.choose(150, 500)
    identities = {name: measure_identity(dtype, settings.device) for name, dtype in DTYPES.items()}
    derivatives = {"tanh": derivative(torch.tanh, grid()), "sigmoid": derivative(torch.sigmoid, grid())}
    chained = derivatives["tanh"] - 4 * derivative(torch.sigmoid, 2 * grid())
    curves = {rate: _train_all(rate, seeds, most, announce) for rate in _LEARNING_RATES}
    announce("tanh-vs-sigmoid: memory")
    return Measured(
        seeds=seeds,
        identities=identities,
        derivatives=derivatives,
        derivative_error=float(chained.abs().max()),
        mean_activations={n: spread_of([mean_activation(a, seed) for seed in seeds]) for n, a in ACTIVATIONS.items()},
        epochs={
            rate: {name: tuple(map(epochs_until, by_seed)) for name, by_seed in c.items()} for rate, c in curves.items()
        },
        most_epochs=most,
        losses=curves[_LEARNING_RATES[0]],
        profiles={name: profile_training(_subject(name, a), settings) for name, a in ACTIVATIONS.items()},
    )


def _train_all(
    rate: float, seeds: tuple[int, ...], epochs: int, announce: Announce
) -> dict[str, tuple[tuple[float, ...], ...]]:
    announce(f"tanh-vs-sigmoid: training with learning rate {rate}")
    with one_thread():
        return {name: tuple(train(a, seed, rate, epochs) for seed in seeds) for name, a in ACTIVATIONS.items()}


def judge_identity(measured: Measured, allowed: float = ALLOWED_EPS) -> Claim:
    """The source's identity, in every dtype."""
    errors = {name: identity.error_in_eps for name, identity in measured.identities.items()}
    return Claim(
        "tanh(z) + 1 = 2 sigmoid(2z)",
        {name: error <= allowed for name, error in errors.items()},
        "largest difference for z in [-12, 12], in units of eps: "
        + ", ".join(f"{name} {error:.2f}" for name, error in errors.items()),
        {"largest_difference_in_eps": errors, "allowed_eps": allowed, "points": _POINTS},
    )


def judge_cancellation(measured: Measured) -> Claim:
    """Equal in absolute terms, the sides are not equally good: 1 - (almost 1) loses digits that sigmoid keeps."""
    found = measured.identities
    checks = {f"{name}: 2 sigmoid(2z) is accurate": i.careful_error_in_eps <= ALLOWED_EPS for name, i in found.items()}
    checks |= {f"{name}: tanh(z) + 1 loses digits for negative z": i.growth >= 10 for name, i in found.items()}
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
        "tanh'(z) = 4 sigmoid'(2z): four times the slope is what makes tanh different",
        {"equal in float64": measured.derivative_error <= ALLOWED_EPS * eps},
        f"largest difference {measured.derivative_error / eps:.2f} eps",
        {"largest_difference": measured.derivative_error, "eps": eps},
        Origin.CORRECTION,
    )


def judge_centred(measured: Measured) -> Claim:
    """Activations around 0, which sigmoid's cannot be."""
    means = measured.mean_activations
    return Claim(
        "tanh is centred at 0, sigmoid is not",
        {
            "tanh is": max(abs(means["tanh"].lowest), abs(means["tanh"].highest)) < _CENTRED,
            "sigmoid is not": means["sigmoid"].lowest > _CENTRED,
        },
        ", ".join(f"mean activation of {name} {s.mean:.3f} ± {s.deviation:.3f}" for name, s in means.items()),
        {"mean_activation": {name: asdict(spread) for name, spread in means.items()}, "seeds": measured.seeds},
    )


def judge_speed(measured: Measured, faster: str = "tanh", slower: str = "sigmoid") -> Claim:
    """Epochs to a loss, from the same weights with the same steps, at several learning rates."""
    epochs = {
        rate: {name: _reached(e, measured.most_epochs) for name, e in by.items()}
        for rate, by in measured.epochs.items()
    }
    return Claim(
        f"{faster} converges faster than {slower}, thanks to its larger derivative",
        {
            f"learning rate {rate}, every seed": all(a < b for a, b in zip(by[faster], by[slower], strict=True))
            for rate, by in epochs.items()
        },
        f"median epochs to a loss of {_THRESHOLD}: "
        + ", ".join(
            f"{_median(by[faster], measured)} against {_median(by[slower], measured)} (learning rate {rate})"
            for rate, by in epochs.items()
        ),
        {
            "epochs_by_learning_rate": {str(rate): dict(by) for rate, by in measured.epochs.items()},
            "threshold": _THRESHOLD,
            "most_epochs": measured.most_epochs,
            "seeds": measured.seeds,
        },
    )


def judge_memory(measured: Measured) -> Claim:
    """Neither function is the cheaper one to train with."""
    retained = {name: profile.retained_bytes for name, profile in measured.profiles.items()}
    peaks = {name: profile.summary.peak.bytes for name, profile in measured.profiles.items()}
    return Claim(
        "Training takes equally much memory with tanh and with sigmoid",
        {
            "retained activations": retained["tanh"] == retained["sigmoid"],
            "peak": peaks["tanh"] == peaks["sigmoid"],
        },
        ", ".join(f"{name} {format_size(size)} at the peak" for name, size in peaks.items()),
        {"retained_bytes": retained, "training_peak_bytes": peaks},
        Origin.CONTROL,
    )


def _reached(epochs: tuple[int | None, ...], most: int) -> tuple[int, ...]:
    """Epochs, the most that were run for a network that never got there."""
    return tuple(most if epoch is None else epoch for epoch in epochs)


def _median(epochs: tuple[int, ...], measured: Measured) -> str:
    median = statistics.median(epochs)
    return f"over {median:.0f}" if median >= measured.most_epochs else f"{median:.0f}"


def _answer(measured: Measured) -> str:
    highest = {name: float(slope.max()) for name, slope in measured.derivatives.items()}
    return (
        f"They are one curve, shifted and stretched, but tanh's mean activation is "
        f"{measured.mean_activations['tanh'].mean:.2f}, sigmoid's {measured.mean_activations['sigmoid'].mean:.2f}, and "
        f"tanh's slope reaches {highest['tanh']:g}, sigmoid's {highest['sigmoid']:g}. "
        f"{judge_speed(measured).measured.capitalize()}."
    )


def _draw(measured: Measured) -> Picture:
    highest = {name: float(slope.max()) for name, slope in measured.derivatives.items()}
    epochs = measured.epochs[_LEARNING_RATES[0]]
    tanh, sigmoid = (_median(_reached(epochs[name], measured.most_epochs), measured) for name in ("tanh", "sigmoid"))
    headline = (
        f"tanh is {highest['tanh'] / highest['sigmoid']:.1f} times as steep as sigmoid, "
        f"and learns in {tanh} epochs instead of {sigmoid}"
    )
    return Picture(headline, (_slopes(measured), _errors(measured), _curves(measured)))


def _slopes(measured: Measured) -> Panel:
    shown = slice(None, None, 40)
    z = tuple(grid()[shown].tolist())
    series = tuple(Series(f"{name}'", tuple(d[shown].tolist()), z) for name, d in measured.derivatives.items())
    return Panel("Derivatives", "z", "slope", series, levels={"1": 1.0, "1/4": 0.25}, markers=False)


def _errors(measured: Measured) -> Panel:
    series = tuple(Series(name, i.relative_error, i.bins) for name, i in measured.identities.items())
    return Panel("Error of tanh(z) + 1", "z", "relative error", series, log_y=True, markers=False)


def _curves(measured: Measured) -> Panel:
    series = []
    for name, by_seed in measured.losses.items():
        shortest = min(map(len, by_seed))  # beyond it the mean would be of fewer seeds
        losses = np.array([curve[:shortest] for curve in by_seed])
        columns = (losses.mean(axis=0), losses.min(axis=0), losses.max(axis=0))
        mean, low, high = (tuple(column.tolist()) for column in columns)
        series.append(Series(name, mean, tuple(map(float, range(shortest))), low, high))
    title = f"Training, {len(measured.seeds)} seeds"
    return Panel(title, "epoch", "loss (nats)", tuple(series), levels={"threshold": _THRESHOLD}, markers=False)


EXPERIMENT = Experiment(
    name="tanh-vs-sigmoid",
    question="tanh(z) + 1 = 2 sigmoid(2z): why prefer tanh?",
    measure=measure,
    rules=(
        judge_identity,
        judge_cancellation,
        judge_source_ranges,
        judge_ranges,
        judge_chain_rule,
        judge_centred,
        judge_speed,
        judge_memory,
    ),
    answer=_answer,
    draw=_draw,
    count=lambda _: 2 + len(_LEARNING_RATES),
)
