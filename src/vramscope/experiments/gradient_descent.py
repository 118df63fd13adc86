"""What does the minus sign in gradient descent mean? And what each optimizer stores to take its step."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vramscope.experiments.frame import Announce, Experiment, Settings
from vramscope.experiments.profiled import STEP_COUNTER, Profiled, Subject, profile_training
from vramscope.findings import Claim, Origin, Panel, PanelKind, Picture, Series
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import PassSummary
from vramscope.workloads.workload import Workload

MINUS, PLUS = -1.0, 1.0
STABLE, TOO_LARGE = 0.5, 2.5
"""Step sizes as multiples of 1/λ, λ the largest curvature: descent on a quadratic needs less than 2 (Nesterov,
Introductory Lectures on Convex Optimization, 2004, theorem 2.1.14)."""
COPIES: Mapping[str, int] = {"sgd": 0, "sgd:momentum=0.9": 1, "adam": 2, "adamw": 2}
"""Numbers that each optimizer keeps per parameter: none; the momentum; Adam's two moments (Kingma and Ba, 2015)."""
LABELS = {"sgd": "SGD", "sgd:momentum=0.9": "momentum", "adam": "Adam", "adamw": "AdamW"}
_COUNTER_BYTES = 4
"""torch keeps the step count as one float32 per parameter tensor (torch/optim/adam.py, _init_group)."""
_FEATURES, _SAMPLES = 8, 200
_CURVATURES = (1.0, 0.3, 0.1)
_RIDGE = 0.1

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A loss of a weight vector in float64, where descent starts, and the loss's largest curvature."""

    name: str
    loss: Loss
    start: Tensor
    curvature: float


@dataclass(frozen=True)
class Run:
    """Losses before every step and after the last one, and the slope's length at either end."""

    losses: tuple[float, ...]
    slope_before: float
    slope_after: float

    @property
    def always_falls(self) -> bool:
        """Whether every step lowers the loss."""
        return all(after < before for before, after in itertools.pairwise(self.losses))

    @property
    def always_rises(self) -> bool:
        """Whether every step raises the loss."""
        return all(after > before for before, after in itertools.pairwise(self.losses))


@dataclass(frozen=True)
class Measured:
    """Runs by problem, sign and step size, and a profiled training pass for each optimizer."""

    runs: Mapping[str, Mapping[tuple[float, float], Run]]
    profiles: Mapping[str, Profiled]
    tensors: int

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with every optimizer."""
        return {f"training, {LABELS[name]}": profile.summary for name, profile in self.profiles.items()}


def quadratic() -> Problem:
    """Half of the sum of λ w², a bowl with its minimum 0 at w = 0."""
    curvatures = torch.tensor(_CURVATURES, dtype=torch.float64)
    start = torch.ones(len(_CURVATURES), dtype=torch.float64)
    return Problem("quadratic", lambda w: 0.5 * (curvatures * w**2).sum(), start, max(_CURVATURES))


def logistic_regression(seed: int) -> Problem:
    """Cross entropy of two noisy classes with a small L2 penalty, which makes its minimum finite and unique.

    Its curvature is at most the largest eigenvalue of X'X / (4 n) plus the penalty's (sigmoid' is at most 1/4).
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(_SAMPLES, _FEATURES, dtype=torch.float64, generator=generator)
    truth = torch.randn(_FEATURES, dtype=torch.float64, generator=generator)
    classes = (inputs @ truth + torch.randn(_SAMPLES, dtype=torch.float64, generator=generator) > 0).double()
    curvature = float(torch.linalg.eigvalsh(inputs.T @ inputs)[-1]) / (4 * _SAMPLES) + _RIDGE

    def loss(weights: Tensor) -> Tensor:
        entropy = functional.binary_cross_entropy_with_logits(inputs @ weights, classes)
        return entropy + 0.5 * _RIDGE * weights.square().sum()

    return Problem("logistic regression", loss, torch.ones(_FEATURES, dtype=torch.float64), curvature)


def follow(problem: Problem, sign: float, size: float, steps: int) -> Run:
    """Take steps ``w + sign * size / λ * slope``."""
    weights = problem.start.clone().requires_grad_()
    losses, lengths = [], []
    for _ in range(steps + 1):
        loss = problem.loss(weights)
        (slope,) = torch.autograd.grad(loss, weights)
        losses.append(float(loss.detach()))
        lengths.append(float(slope.norm()))
        weights = (weights + sign * size / problem.curvature * slope).detach().requires_grad_()
    return Run(tuple(losses), lengths[0], lengths[-1])


def _subject(width: int) -> Subject:
    def build() -> Workload:
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        inputs = torch.randn(8, width)
        return Workload(model, inputs, functional.mse_loss, torch.zeros_like(inputs))

    return Subject("two linear layers", build)


def measure(settings: Settings, announce: Announce) -> Measured:
    """Follow both signs down, or up, and profile a step of every optimizer."""
    announce("gradient-descent: both signs")
    problems = (quadratic(), logistic_regression(settings.seed))
    ways = ((MINUS, STABLE), (PLUS, STABLE), (MINUS, TOO_LARGE))
    steps = settings.choose(20, 60)
    runs = {p.name: {(sign, size): follow(p, sign, size, steps) for sign, size in ways} for p in problems}
    subject = _subject(settings.choose(64, 512))
    profiles = {}
    for name in COPIES:
        announce(f"gradient-descent: {LABELS[name]}")
        profiles[name] = profile_training(subject, settings, name)
    return Measured(runs, profiles, len(list(subject.build().model.parameters())))


def judge_minus(measured: Measured, sign: float = MINUS) -> Claim:
    """The source's claim: a step with this sign goes down, towards a minimum."""
    runs = {name: by_way[sign, STABLE] for name, by_way in measured.runs.items()}
    checks = {f"{name}: every step lowers the loss": run.always_falls for name, run in runs.items()}
    checks |= {f"{name}: the slope flattens": run.slope_after < run.slope_before for name, run in runs.items()}
    return Claim(
        "The minus sign makes a step go against the slope: the loss falls, towards a minimum",
        checks,
        "; ".join(f"{name}: loss {run.losses[0]:.3f} to {run.losses[-1]:.3g}" for name, run in runs.items()),
        _run_evidence(runs),
    )


def judge_plus(measured: Measured) -> Claim:
    """The control: with the other sign the same step goes up."""
    runs = {name: by_way[PLUS, STABLE] for name, by_way in measured.runs.items()}
    return Claim(
        "With a plus sign the same step goes up the slope: the loss rises",
        {f"{name}: every step raises the loss": run.always_rises for name, run in runs.items()},
        "; ".join(f"{name}: loss {run.losses[0]:.3f} to {run.losses[-1]:.3g}" for name, run in runs.items()),
        _run_evidence(runs),
        Origin.CONTROL,
    )


def judge_sign_alone(measured: Measured) -> Claim:
    """What the source leaves out: the slope is only a local direction, so the step must not be too long."""
    runs = {(name, size): by_way[MINUS, size] for name, by_way in measured.runs.items() for size in (STABLE, TOO_LARGE)}
    bowl = measured.runs["quadratic"][MINUS, TOO_LARGE]
    return Claim(
        "The minus sign alone makes the loss fall, whatever the learning rate",
        {f"{name}, learning rate {size}/λ": run.losses[-1] < run.losses[0] for (name, size), run in runs.items()},
        f"with a learning rate of {TOO_LARGE}/λ the quadratic's loss grows from {bowl.losses[0]:.2f} "
        f"to {bowl.losses[-1]:.3g}",
        _run_evidence({f"{name}, {size}/λ": run for (name, size), run in runs.items()}),
        Origin.QUESTION,
    )


def judge_state(measured: Measured, copies: Mapping[str, int] = COPIES) -> Claim:
    """What is stored per parameter, to the byte."""
    state = {name: profile.state_bytes() for name, profile in measured.profiles.items()}
    checks = {}
    for name, count in copies.items():
        moments = sum(size for key, size in state[name].items() if key != STEP_COUNTER)
        counters = _COUNTER_BYTES * measured.tensors if "adam" in name else 0
        checks[f"{LABELS[name]}: {count} copies"] = moments == count * measured.profiles[name].parameter_bytes
        checks[f"{LABELS[name]}: {counters} bytes of counters"] = state[name].get(STEP_COUNTER, 0) == counters
    return Claim(
        "Per parameter SGD stores nothing, momentum one number, Adam and AdamW two, and a step counter per tensor",
        checks,
        "; ".join(f"{LABELS[name]} {_in_words(state[name], measured.profiles[name])}" for name in state),
        {
            "parameter_bytes": {LABELS[name]: profile.parameter_bytes for name, profile in measured.profiles.items()},
            "requested_state_bytes": {LABELS[name]: by_name for name, by_name in state.items()},
            "parameter_tensors": measured.tensors,
        },
        Origin.CORRECTION,
    )


def judge_in_place(measured: Measured) -> Claim:
    """What an optimizer needs only while it steps."""
    temporary = {name: p.most_bytes(Category.OPTIMIZER_TEMPORARIES) for name, p in measured.profiles.items()}
    return Claim(
        "An optimizer's step needs no memory besides its state",
        {LABELS[name]: size == 0 for name, size in temporary.items()},
        "temporaries in the step: " + ", ".join(f"{LABELS[n]} {size:,} B" for n, size in temporary.items()),
        {"temporary_peak_bytes": {LABELS[name]: size for name, size in temporary.items()}},
        Origin.QUESTION,
    )


def _in_words(state: Mapping[str, int], profile: Profiled) -> str:
    moments = sum(size for key, size in state.items() if key != STEP_COUNTER)
    counters = f" + {state[STEP_COUNTER]} B" if STEP_COUNTER in state else ""
    return f"{moments / profile.parameter_bytes:g} copies{counters}"


def _run_evidence(runs: Mapping[str, Run]) -> dict[str, object]:
    return {
        name: {
            "first_loss": run.losses[0],
            "last_loss": run.losses[-1],
            "steps": len(run.losses) - 1,
            "slope_before": run.slope_before,
            "slope_after": run.slope_after,
        }
        for name, run in runs.items()
    }


def _answer(measured: Measured) -> str:
    runs = measured.runs["logistic regression"]
    down, up = runs[MINUS, STABLE], runs[PLUS, STABLE]
    return (
        f"It makes the step go downhill: with minus the loss of a logistic regression falls from {down.losses[0]:.2f} "
        f"to {down.losses[-1]:.2f}, with plus it rises to {up.losses[-1]:.3g}. The step itself may need memory: "
        f"{', '.join(f'{LABELS[n]} {_in_words(p.state_bytes(), p)}' for n, p in measured.profiles.items())}."
    )


def _draw(measured: Measured) -> Picture:
    panels = [_losses(name, by_way) for name, by_way in measured.runs.items()]
    runs = measured.runs["quadratic"]
    down, up = runs[MINUS, STABLE].losses, runs[PLUS, STABLE].losses
    headline = f"From a loss of {down[0]:.1f} the minus sign leads to {down[-1]:.1g}, the plus sign to {up[-1]:.0g}"
    return Picture(headline, (*panels, _copies(measured)))


def _losses(name: str, by_way: Mapping[tuple[float, float], Run]) -> Panel:
    labels = {(MINUS, STABLE): "minus", (PLUS, STABLE): "plus", (MINUS, TOO_LARGE): "minus, step too long"}
    series = [_curve(label, by_way[way].losses) for way, label in labels.items()]
    return Panel(name.capitalize(), "step", "loss", tuple(series), log_y=True, markers=False)


def _curve(label: str, losses: Sequence[float]) -> Series:
    return Series(label, tuple(losses), tuple(map(float, range(len(losses)))))


def _copies(measured: Measured) -> Panel:
    categories = (Category.OPTIMIZER_STATE, Category.OPTIMIZER_TEMPORARIES)
    series = tuple(
        Series(c.value, tuple(p.most_bytes(c) / p.parameter_bytes for p in measured.profiles.values()))
        for c in categories
    )
    names = tuple(LABELS[name] for name in measured.profiles)
    return Panel("Memory of the step", "optimizer", "copies of the parameters", series, PanelKind.STACK, names)


EXPERIMENT = Experiment(
    name="gradient-descent",
    question="What does the minus sign in gradient descent mean?",
    measure=measure,
    rules=(judge_minus, judge_plus, judge_sign_alone, judge_state, judge_in_place),
    answer=_answer,
    draw=_draw,
    count=lambda _: 1 + len(COPIES),
)
