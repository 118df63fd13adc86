"""Steps along and against the slope of two losses."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MINUS, PLUS = -1.0, 1.0
STABLE, TOO_LARGE = 0.5, 2.25
"""Step sizes as multiples of 1/λ, λ the largest curvature. Descent on a quadratic needs less than 2 (Nesterov,
Introductory Lectures on Convex Optimization, 2004, theorem 2.1.14): along the steepest axis a step multiplies the
weight by 1 minus the multiple, 0.5 and -1.25 here; with a plus sign the stable one multiplies it by 1.5."""
_FEATURES, _SAMPLES = 8, 200
_CURVATURES = (1.0, 0.3, 0.1)
_RIDGE = 0.1
_NEWTON_STEPS = 20

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A loss of a weight vector in float64, where descent starts, and the loss's largest curvature."""

    name: str
    loss: Loss
    start: Tensor
    curvature: float

    def minimum(self) -> float:
        """The least loss, by Newton's method, which converges on both convex problems."""
        weights = self.start
        for _ in range(_NEWTON_STEPS):
            slope = torch.autograd.functional.jacobian(self.loss, weights)
            curvatures = torch.autograd.functional.hessian(self.loss, weights)
            weights = weights - torch.linalg.solve(curvatures, slope)
        return float(self.loss(weights))


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
