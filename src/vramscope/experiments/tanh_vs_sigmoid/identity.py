"""Both sides of tanh(z) + 1 = 2 sigmoid(2z) in every dtype, and both derivatives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
REACH = 12.0
"""The identity is tested for z in [-12, 12]."""
POINTS = 4801
"""Odd, so that 0, where both derivatives are largest, is among them."""
_DRAWN_BINS = 24


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


def grid() -> Tensor:
    """Evenly spaced z in float64, 0 among them."""
    return torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)


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
