"""Factories of small workloads, each of which lives off operators that fakes describe otherwise than they run."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vramscope import Workload


class Calls(nn.Module):
    """Calls a function with itself and its inputs; holds the modules that the function uses."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def _workload(function, *inputs: Tensor, optimizer=torch.optim.SGD, **modules: nn.Module) -> Workload:
    model = Calls(function, **modules)
    return Workload(model, inputs, optimizer=lambda held: optimizer(held.parameters(), lr=0.1))


class _Sums(torch.autograd.Function):
    """Its backward looks at a device and adds up two tensors of its own."""

    @staticmethod
    def forward(ctx, given):
        return 2 * given

    @staticmethod
    def backward(ctx, gradient):
        first, second = gradient * 3, gradient * 2
        assert second.device == gradient.device
        return (second + first) * second


class _Selects(torch.autograd.Function):
    """Its backward uses an operator that torch's own formulas use in place."""

    @staticmethod
    def forward(ctx, given, indices):
        ctx.save_for_backward(indices)
        ctx.shape = given.shape
        return given.index_select(0, indices)

    @staticmethod
    def backward(ctx, gradient):
        (indices,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_add(0, indices, gradient), None


def sum_in_a_function() -> Workload:
    return _workload(lambda m, x: _Sums.apply(m.layer(x)), torch.randn(64, 8), layer=nn.Linear(8, 64))


def sum_in_a_formula() -> Workload:
    """The formula of a triangular factor adds up two of its own right after it has asked for a device."""

    def factor(m, x):
        return torch.linalg.cholesky(m.layer(x) @ m.layer(x).T + 5 * torch.eye(64))

    return _workload(factor, torch.randn(64, 8), layer=nn.Linear(8, 8))


def index_add_in_a_function() -> Workload:
    rows = torch.randint(64, (4,))
    return _workload(lambda m, x, i: _Selects.apply(m.layer(x), i), torch.randn(64, 8), rows, layer=nn.Linear(8, 512))


def scatter_in_a_checkpoint() -> Workload:
    def routed(m, x):
        chances = m.layer(x).softmax(-1)
        best = chances.topk(2).indices
        with torch.no_grad():
            mask = torch.zeros_like(chances).scatter(1, best, 1.0)
        return chances * mask

    again = lambda m, x: checkpoint(lambda given: routed(m, given), x, use_reentrant=False)  # noqa: E731
    return _workload(again, torch.randn(64, 8), layer=nn.Linear(8, 64))


def taken() -> Workload:
    places = torch.randint(64, (4,))
    return _workload(lambda m, x, i: m.layer(x).take(i), torch.randn(64, 8), places, layer=nn.Linear(8, 64))


def scattered_slice() -> Workload:
    part = lambda m, x: m.layer(x)[:1].slice_scatter(x[:1, :4], 1, 0, 4)  # noqa: E731
    return _workload(part, torch.randn(64, 8), layer=nn.Linear(8, 64))


def scattered_diagonal() -> Workload:
    part = lambda m, x: m.layer(x)[:8, :8].diagonal_scatter(x[0])  # noqa: E731
    return _workload(part, torch.randn(64, 8), layer=nn.Linear(8, 64))


def folded() -> Workload:
    return _workload(lambda m, x: F.fold(m.layer(x), (8, 8), (3, 3)), torch.randn(2, 36, 8), layer=nn.Linear(8, 36))


def unfolded() -> Workload:
    return _workload(lambda m, x: F.unfold(m.layer(x), (3, 3)), torch.randn(2, 4, 8, 8), layer=nn.Linear(8, 8))


def sparse_embedding() -> Workload:
    """Something else refers to the gradient's parts while it flows: the gradient is taken over all the same."""

    def both(m, x, i):
        return checkpoint(m.layers, x, use_reentrant=False) + m.table(i)

    layers = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16))
    places = torch.randint(50, (32,))
    return _workload(both, torch.randn(32, 16), places, layers=layers, table=nn.Embedding(50, 16, sparse=True))


def sparse_gradients_that_meet() -> Workload:
    table = nn.Embedding(50, 16, sparse=True)
    return _workload(lambda m, i: m.table(i) + m.table(i + 1), torch.randint(49, (32,)), table=table)


def sparse_bags() -> Workload:
    bags = nn.EmbeddingBag(50, 16, mode="sum", sparse=True)
    places = torch.randint(50, (32, 3))
    return _workload(
        lambda m, x, i: m.layer(x) + m.bags(i), torch.randn(32, 16), places, layer=nn.Linear(16, 16), bags=bags
    )


def sparse_adam() -> Workload:
    """No index occurs twice."""
    table = nn.Embedding(50, 16, sparse=True)
    return _workload(lambda m, i: m.table(i), torch.arange(32), optimizer=torch.optim.SparseAdam, table=table)


def sparse_adam_of_a_small_table() -> Workload:
    """More indices than rows, each of which occurs."""
    table = nn.Embedding(16, 8, sparse=True)
    return _workload(lambda m, i: m.table(i), torch.arange(64) % 16, optimizer=torch.optim.SparseAdam, table=table)


def lazy_layers() -> Workload:
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    images = torch.randn(2, 3, 8, 8)
    model(images)
    return Workload(model, images)
