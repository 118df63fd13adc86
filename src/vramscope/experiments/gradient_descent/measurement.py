"""Both signs followed, and a step of every optimizer profiled."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.gradient_descent.descent import (
    MINUS,
    PLUS,
    STABLE,
    TOO_LARGE,
    Run,
    follow,
    logistic_regression,
    quadratic,
)
from vramscope.experiments.profiled import Profiled, Subject, profile_training
from vramscope.ledger.summary import PassSummary
from vramscope.workloads.workload import Workload

LABELS = {"sgd": "SGD", "sgd:momentum=0.9": "momentum", "adam": "Adam", "adamw": "AdamW"}
"""The optimizers that are profiled, as users name them, and what tables call them."""


@dataclass(frozen=True)
class Measured:
    """Runs by problem, sign and step size; each problem's least loss; a profiled training pass for each optimizer.

    ``tensors`` are the profiled model's parameter tensors, ``largest_tensor_bytes`` the size of the largest of them.
    """

    runs: Mapping[str, Mapping[tuple[float, float], Run]]
    minima: Mapping[str, float]
    profiles: Mapping[str, Profiled]
    tensors: int
    largest_tensor_bytes: int

    @property
    def passes(self) -> dict[str, PassSummary]:
        """The training pass with every optimizer."""
        return {f"training, {LABELS[name]}": profile.summary for name, profile in self.profiles.items()}


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
    for name, label in LABELS.items():
        announce(f"gradient-descent: {label}")
        profiles[name] = profile_training(subject, settings, name)
    minima = {problem.name: problem.minimum() for problem in problems}
    parameters = list(subject.build().model.parameters())
    return Measured(runs, minima, profiles, len(parameters), max(parameter.nbytes for parameter in parameters))
