"""Factories of small workloads, each of which lives off operators that fakes describe otherwise than they run."""

import random
from copy import deepcopy
from itertools import pairwise

import numpy as np
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


def scattered_zeros() -> Workload:
    """Its backward scatters zeros over a gradient that the node before it has made as its last act."""
    places = torch.randint(64, (8, 4))
    zeros = lambda m, x, i: m.layer(x).exp().scatter(1, i, 0.0).exp()  # noqa: E731
    return _workload(zeros, torch.randn(8, 8), places, layer=nn.Linear(8, 64))


def taken() -> Workload:
    places = torch.randint(64, (4,))
    return _workload(lambda m, x, i: m.layer(x).take(i), torch.randn(64, 8), places, layer=nn.Linear(8, 64))


def scattered_slice() -> Workload:
    part = lambda m, x: m.layer(x)[:1].slice_scatter(x[:1, :4], 1, 0, 4)  # noqa: E731
    return _workload(part, torch.randn(64, 8), layer=nn.Linear(8, 64))


def scattered_diagonal() -> Workload:
    part = lambda m, x: m.layer(x)[:8, :8].diagonal_scatter(x[0])  # noqa: E731
    return _workload(part, torch.randn(64, 8), layer=nn.Linear(8, 64))


def groups_of_narrow_numbers() -> Workload:
    """Statistics have the type of the weights, the input's gradient that of the input, as under autocast."""
    layers = {"layer": nn.Conv2d(3, 8, 3).bfloat16(), "norm": nn.GroupNorm(4, 8)}
    images = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)
    return _workload(lambda m, x: m.norm(m.layer(x)).relu(), images, **layers)


def losses_against_wider_targets() -> Workload:
    """Gradients have the type of what they are gradients of, in which the formulas of losses work."""

    def losses(m, x, target):
        given = m.layer(x)
        narrow = F.binary_cross_entropy_with_logits(given.bfloat16(), target.float())
        return sum(loss(given, target) for loss in (F.mse_loss, F.smooth_l1_loss, F.soft_margin_loss)) + narrow

    target = torch.rand(64, 8, dtype=torch.float64)
    return _workload(losses, torch.randn(64, 8), target, layer=nn.Linear(8, 8))


def clamped_between_tensors() -> Workload:
    """The backward of limits combines its masks in place, of which one is smaller than what it is combined with."""
    limits = {"low": nn.Linear(8, 64), "high": nn.Linear(64, 64)}
    both = lambda m, x: m.layer(x).exp().clamp(m.low(x), m.high.bias)  # noqa: E731
    return _workload(both, torch.randn(8, 8), layer=nn.Linear(8, 64), **limits)


def smallest_and_largest() -> Workload:
    return _workload(lambda m, x: sum(m.layer(x).aminmax(dim=1)), torch.randn(64, 8), layer=nn.Linear(8, 64))


def unpooled_with_channels_together() -> Workload:
    """The gradient of unpooling needs no copy: what is unpooled lies as it did."""

    def there_and_back(m, x):
        return F.max_unpool2d(*F.max_pool2d(m.layer(x), 2, return_indices=True), 2)

    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    return _workload(there_and_back, images, layer=nn.Conv2d(3, 4, 1))


def whole_layer_of_a_transformer() -> Workload:
    """In inference one operator is the layer, and what it gives has the type of its products under autocast."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return _workload(lambda m, x: m.head(m.layer(x)), torch.randn(2, 8, 16), layer=layer, head=nn.Linear(16, 4))


def _bags(**options) -> Workload:
    places, offsets = torch.randint(1, 50, (9,)), torch.tensor([0, 3, 5, 9])
    return _workload(lambda m, i, o: m.bags(i, o), places, offsets, bags=nn.EmbeddingBag(50, 16, **options))


def bags_of_maxima() -> Workload:
    return _bags(mode="max")


def bags_of_means_with_an_end() -> Workload:
    return _bags(mode="mean", include_last_offset=True)


def bags_of_sums_with_an_end() -> Workload:
    return _bags(mode="sum", include_last_offset=True)


def bags_of_sums_in_16_bits() -> Workload:
    return _bags(mode="sum", dtype=torch.bfloat16)


def bags_of_sums_in_64_bits() -> Workload:
    return _bags(mode="sum", dtype=torch.float64)


def bags_of_sums_without_one_index() -> Workload:
    return _bags(mode="sum", padding_idx=0)


def _alignments(m, x, target, *lengths) -> Tensor:
    return F.ctc_loss(m.layer(x).log_softmax(-1), target, *lengths, reduction="sum", zero_infinity=True)


def alignments_of_known_lengths() -> Workload:
    """Of three sequences of twelve places: the longest target is shorter than what holds it."""
    loss = lambda m, x, target: _alignments(m, x, target, [12, 12, 12], [3, 2, 3])  # noqa: E731
    return _workload(loss, torch.randn(12, 3, 8), torch.randint(1, 8, (3, 4)), layer=nn.Linear(8, 8))


def alignments_of_lengths_that_are_data() -> Workload:
    """The longest target fills what holds it."""
    lengths = torch.tensor([12, 12, 12]), torch.tensor([4, 2, 3])
    return _workload(_alignments, torch.randn(12, 3, 8), torch.randint(1, 8, (3, 4)), *lengths, layer=nn.Linear(8, 8))


def _packed(layer: nn.Module, lengths, **options) -> Workload:
    """Three sequences of at most seven steps, whose lengths are made in the model."""

    def run(m, x):
        packed = nn.utils.rnn.pack_padded_sequence(m.layer(x), lengths(), **options)
        return nn.utils.rnn.pad_packed_sequence(m.recurrent(packed)[0])[0]

    return _workload(run, torch.randn(7, 3, 8), layer=nn.Linear(8, 8), recurrent=layer)


def packed_lstm() -> Workload:
    return _packed(nn.LSTM(8, 16, 2, bidirectional=True), lambda: [7, 5, 2])


def packed_gru_of_sequences_in_any_order() -> Workload:
    return _packed(nn.GRU(8, 16), lambda: torch.tensor([2, 7, 5]), enforce_sorted=False)


def packed_sequences_of_lengths_that_are_data() -> Workload:
    """Each is as long as what holds it, which is what they are taken for."""

    def run(m, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(m.layer(x), lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(m.recurrent(packed)[0], batch_first=True)[0]

    inputs = torch.randn(3, 7, 8), torch.tensor([7, 7, 7])
    return _workload(run, *inputs, layer=nn.Linear(8, 8), recurrent=nn.RNN(8, 16, batch_first=True))


def products_of_all() -> Workload:
    """Of numbers without zeros, as those of the next two."""
    return _workload(lambda m, x: m.layer(x).exp().prod(), torch.randn(8, 8), layer=nn.Linear(8, 8))


def products_of_rows() -> Workload:
    return _workload(lambda m, x: m.layer(x).exp().prod(1), torch.randn(8, 8), layer=nn.Linear(8, 64))


def cumulative_products() -> Workload:
    return _workload(lambda m, x: m.layer(x).exp().cumprod(1), torch.randn(8, 8), layer=nn.Linear(8, 64))


def largest_of_all() -> Workload:
    """Its gradient is made of zeros in place, where no number is taken to be none."""
    return _workload(lambda m, x: m.layer(x).exp().max(), torch.randn(64, 8), layer=nn.Linear(8, 64))


def median_of_all() -> Workload:
    return _workload(lambda m, x: m.layer(x).exp().median(), torch.randn(64, 8), layer=nn.Linear(8, 64))


def chances_turned_round() -> Workload:
    """The gradient of chances lies in order, whatever the order of the gradient that flows in."""
    turned = lambda m, x: m.layer(x).exp().log_softmax(0).t().contiguous()  # noqa: E731
    return _workload(turned, torch.randn(64, 8), layer=nn.Linear(8, 64))


def counted_truths() -> Workload:
    """What a reduction to another type takes of its own, here and in the next ones."""
    return _workload(lambda m, x: m.layer(x) * (x > 0).sum(), torch.randn(64, 8), layer=nn.Linear(8, 64))


def wide_sums() -> Workload:
    wide = lambda m, x: m.layer(x).cumsum(1, dtype=torch.float64).float()  # noqa: E731
    return _workload(wide, torch.randn(64, 8), layer=nn.Linear(8, 64))


def ranked() -> Workload:
    return _workload(lambda m, x: m.layer(x).kthvalue(2, 1)[0], torch.randn(64, 8), layer=nn.Linear(8, 64))


def shifted_windows() -> Workload:
    def shifted(m, x):
        return m.layer(x).view(8, 8, 64).roll((2, 3), (0, 1))

    return _workload(shifted, torch.randn(64, 8), layer=nn.Linear(8, 64))


def means_of_16_bits() -> Workload:
    given = torch.randn(64, 8, dtype=torch.bfloat16)
    return _workload(lambda m, x: m.layer(x).mean(1), given, layer=nn.Linear(8, 64, dtype=torch.bfloat16))


def logarithms_of_sums() -> Workload:
    return _workload(lambda m, x: m.layer(x).logsumexp(1), torch.randn(64, 8), layer=nn.Linear(8, 64))


def chances_of_columns() -> Workload:
    """An input that does not lie in order is copied, and so is a gradient that is one number for all."""
    return _workload(lambda m, x: m.layer(x).t().softmax(1).sum(), torch.randn(16, 8), layer=nn.Linear(8, 32))


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


def _grid(values: Tensor) -> Tensor:
    """A sparse matrix of 16 by 16 with 64 values."""
    places = torch.stack([torch.arange(64) % 16, torch.arange(64) // 4])
    return torch.sparse_coo_tensor(places, values, (16, 16))


def columns_filled_with_a_trained_number() -> Workload:
    return _workload(
        lambda m, x, i: m.layer(x).index_fill(1, i, m.number.weight.sum()),
        torch.randn(16, 4),
        torch.randperm(8)[:3],
        layer=nn.Linear(4, 8),
        number=nn.Linear(1, 1),
    )


def sparse_weights() -> Workload:
    """Of a matrix with trained values."""
    return _workload(
        lambda m, x: torch.sparse.mm(_grid(m.values.weight[0]).coalesce(), x),
        torch.randn(16, 4),
        values=nn.Linear(64, 1),
    )


def sparse_neighbours() -> Workload:
    """A graph's matrix, which goes back turned round."""
    return _workload(
        lambda m, x: torch.sparse.mm(_grid(torch.ones(64)), m.layer(x)), torch.randn(16, 4), layer=nn.Linear(4, 4)
    )


def sparse_neighbours_turned() -> Workload:
    return _workload(
        lambda m, x: torch.sparse.mm(_grid(torch.ones(64)).transpose(0, 1), m.layer(x)),
        torch.randn(16, 4),
        layer=nn.Linear(4, 4),
    )


def sparse_neighbours_copied() -> Workload:
    """By a dimension that changes places with itself."""
    return _workload(
        lambda m, x: m.layer(x) + torch.sparse.mm(_grid(torch.ones(64)).transpose(1, 1), x),
        torch.randn(16, 4),
        layer=nn.Linear(4, 4),
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


def rates_of_stochastic_depth() -> Workload:
    """The first layer's rate is 0: it drops nothing."""
    rates = [rate.item() for rate in torch.linspace(0, 0.3, 3)]

    def drop(m, x):
        for layer, rate in zip(m.layers, rates, strict=True):
            kept = layer(x)
            x = x + (kept * x.new_empty(len(x), 1).bernoulli_(1 - rate) if rate > 0 else kept)
        return x

    return _workload(drop, torch.randn(4, 16), layers=nn.ModuleList(nn.Linear(16, 16) for _ in rates))


def widths_made_of_numbers() -> Workload:
    """16, 24 and 32: what ``unique`` leaves of 1.75, 2.5, 3.25 and 4 eighths, rounded."""
    multiples = (torch.arange(4) * 6 + 14).div(8).round().mul(8).int()
    widths, times = multiples.unique(return_counts=True)
    assert (widths.tolist(), times.tolist()) == ([16, 24, 32], [2, 1, 1])
    layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
    return _workload(lambda m, x: m.layers(x), torch.randn(4, 16), layers=nn.Sequential(*layers))


def mask_of_known_numbers() -> Workload:
    """Every third column is chosen, of which there are six."""
    return _workload(lambda m, x: m.layer(x)[:, torch.arange(16) % 3 == 0], torch.randn(4, 16), layer=nn.Linear(16, 16))


def number_that_is_overwritten() -> Workload:
    """What was known of a tensor is known no longer once data are written to it, be it through a view."""

    def write(m, x):
        places = torch.arange(4.0)
        places[1:3].copy_(x[0, :2].detach())
        return x if places[1] == 1 else m.layer(x) * places[1:2].expand(16)

    return _workload(write, torch.randn(4, 16), layer=nn.Linear(16, 16))


def product_of_an_activation_and_a_parameter() -> Workload:
    """Under autocast the parts of ``einsum`` are cast, each for itself."""
    layers = {"layer": nn.Linear(16, 12), "other": nn.Linear(12, 8)}
    return _workload(lambda m, x: torch.einsum("bi,ci->bc", m.layer(x), m.other.weight), torch.randn(4, 16), **layers)


def recurrent_layers_after_a_layer() -> Workload:
    layers = {"layer": nn.Linear(16, 12), "gru": nn.GRU(12, 8), "rnn": nn.RNN(12, 8, bidirectional=True)}
    return _workload(lambda m, x: m.gru(m.layer(x))[0] + m.rnn(m.layer(x))[0][..., :8], torch.randn(5, 4, 16), **layers)


def distances_and_similarities() -> Workload:
    """Under autocast ``cdist`` and its like are computed in float32, and so are their parts."""

    def compare(m, x):
        first, second = m.first(x), m.second(x)
        return torch.cdist(first.float(), second.float()).sum() + F.cosine_similarity(first, second).sum()

    return _workload(compare, torch.randn(6, 16), first=nn.Linear(16, 8), second=nn.Linear(16, 8))


def reflected_padding() -> Workload:
    return _workload(
        lambda m, x: m.layer(x), torch.randn(2, 3, 8), layer=nn.Conv1d(3, 6, 3, 1, 1, padding_mode="reflect")
    )


def written_result_of_a_layer() -> Workload:
    """What a layer makes of three dimensions is a view: its gradient goes through a block as large as the base."""
    layers = {"first": nn.Linear(10, 12), "second": nn.Linear(12, 4)}
    return _workload(lambda m, x: m.second(F.relu(m.first(x), inplace=True)), torch.randn(4, 5, 10), **layers)


def written_flat_image() -> Workload:
    return _workload(lambda m, x: m.layer(x).flatten(1).relu_(), torch.randn(4, 3, 8, 8), layer=nn.Conv2d(3, 8, 3))


def written_parts() -> Workload:
    """Parts of parts, each reached from the base in one step."""

    def write(m, x):
        hidden = m.layer(x)
        hidden[:, 2:6].mul_(2)
        hidden[0, 3].mul_(x[0].detach().sum())
        hidden[1:, :8][:, 2:].neg_()
        return hidden.tanh()

    return _workload(write, torch.randn(4, 16), layer=nn.Linear(16, 16))


def written_through_another_view() -> Workload:
    """A view whose base was written to through another one."""

    def write(m, x):
        hidden = m.layer(x)
        hidden += x
        heads = hidden.view(4, 5, 2, 8)
        heads *= 2
        heads.transpose(1, 2)[:, :1].add_(1)
        return m.layer(heads.reshape(4, 5, 16)) + hidden * hidden

    return _workload(write, torch.randn(4, 5, 16), layer=nn.Linear(16, 16))


def dropped_in_place() -> Workload:
    drop = lambda m, x: F.dropout(m.layer(x).transpose(1, 2), 0.5, training=True, inplace=True)  # noqa: E731
    return _workload(drop, torch.randn(4, 5, 10), layer=nn.Linear(10, 12))


def filled_part_by_part() -> Workload:
    def fill(m, x):
        result = torch.zeros(4, 5, 12)
        for place in range(5):
            result[:, place] = m.layer(x[:, place])
        result[..., 0].mul_(3)
        return result

    return _workload(fill, torch.randn(4, 5, 10), layer=nn.Linear(10, 12))


def written_heads() -> Workload:
    def write(m, x):
        heads = m.layer(x).view(4, 5, 3, 4).transpose(1, 2)
        heads.masked_fill_(x[:, None, :, :1] > 0, -1.0)
        heads.div_(2.0)
        other = heads.clone()
        other[..., :2].neg_()
        return heads * other

    return _workload(write, torch.randn(4, 5, 10), layer=nn.Linear(10, 12))


def activations_of_what_lies_across() -> Workload:
    """Gradients lie as those that are given, in order; only as the activations' inputs they could be flat at once."""
    functions = (F.elu, F.softplus, F.hardtanh, F.hardswish, F.hardsigmoid, torch.logit)

    def activate(m, x):
        across = m.layer(x).view(4, 5, 3, 4).transpose(1, 2)
        return torch.cat([(found := function(across)) @ found.mT for function in functions])

    return _workload(activate, torch.randn(4, 5, 10), layer=nn.Linear(10, 12))


def angles_and_a_trace() -> Workload:
    def angles(m, x):
        found = torch.atan2(m.layer(x), m.layer(x) + 2)
        return found * (found.T @ found).trace()

    return _workload(angles, torch.randn(6, 10), layer=nn.Linear(10, 12))


def copied_layers_with_known_buffers() -> Workload:
    """The copy has values of its own: 16 rates, of which 15 are positive, then none."""

    class Rated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 16)
            self.register_buffer("rates", torch.linspace(0, 1, 16))

        def forward(self, x):
            return self.layer(x)[:, self.rates > 0].sum(1, keepdim=True) + x

    first = Rated()
    second = deepcopy(first)
    second.rates.mul_(0)
    return _workload(lambda m, x: m.second(m.first(x)), torch.randn(4, 16), first=first, second=second)


def numbers_overwritten_in_lists() -> Workload:
    """Four times 3 are 12; once data are added nobody knows, so that a condition is taken not to hold."""

    def write(m, x):
        numbers = torch.full((4,), 3.0)
        torch._foreach_add_([numbers], [x[0, :4].detach()])
        return x if numbers.sum() == 12 else m.layer(x)

    return _workload(write, torch.randn(4, 16), layer=nn.Linear(16, 16))


def numbers_replaced_through_data() -> Workload:
    def replace(m, x):
        numbers = torch.full((4,), 3.0)
        numbers.data = x[0, :4].detach()
        return x if numbers.sum() == 12 else m.layer(x)

    return _workload(replace, torch.randn(4, 16), layer=nn.Linear(16, 16))


def written_view_whose_gradients_meet() -> Workload:
    """Both gradients are added up while the view's node is the last that ran."""

    def write(m, x):
        hidden = m.layer(x)
        part = hidden[:, :12]
        part.sigmoid_()
        return m.other(hidden) + part.sum()

    return _workload(write, torch.randn(4, 16), layer=nn.Linear(16, 16), other=nn.Linear(16, 16))


def views_written_in_a_loop() -> Workload:
    def write(m, x):
        views = m.first(x).flatten(1), m.second(x).flatten(1)
        for view in views:
            view.tanh_()
        return views[0] * views[1]

    return _workload(write, torch.randn(4, 5, 10), first=nn.Linear(10, 12), second=nn.Linear(10, 12))


def view_of_a_base_that_is_written_to() -> Workload:
    def write(m, x):
        image = m.layer(x)
        flat = image.flatten(1)
        image.relu_()
        return flat * 2

    return _workload(write, torch.randn(4, 3, 8, 8), layer=nn.Conv2d(3, 8, 3))


def alignments_asked_of_torch_itself() -> Workload:
    """Sequences of 12, 4 labels in each target; by the names of torch's own function."""

    def loss(m, x):
        labels = torch.ones(3, 4, dtype=torch.int64)
        return torch.ctc_loss(m.layer(x).log_softmax(2), labels, [12] * 3, [4] * 3, reduction=2, zero_infinity=True)

    return _workload(loss, torch.randn(12, 3, 8), layer=nn.Linear(8, 6))


def layer_norm_of_what_lies_across() -> Workload:
    """Channels are normalised where they do not lie together, and the gradient comes across too."""
    layers = {"layer": nn.Conv2d(3, 8, 1), "norm": nn.LayerNorm(8), "last": nn.Linear(8, 4)}

    def normalise(m, x):
        return m.norm(m.layer(x).flatten(2).transpose(1, 2)).transpose(1, 2).mean(2)

    return _workload(lambda m, x: m.last(normalise(m, x)), torch.randn(4, 3, 6, 6), **layers)


def layer_norm_of_a_layer_whose_gradient_lies_across() -> Workload:
    layers = {"layer": nn.Linear(6, 16), "norm": nn.LayerNorm(16)}
    return _workload(lambda m, x: m.norm(m.layer(x)).transpose(1, 2).mean(2), torch.randn(4, 32, 6), **layers)


def batch_norm_of_sequences_that_lie_across() -> Workload:
    """Its result lies in order, so that the layers after it need not copy."""
    layers = {"layer": nn.Linear(8, 8), "norm": nn.BatchNorm1d(8), "last": nn.Linear(8, 4)}
    sequences = torch.randn(4, 16, 8)
    return _workload(lambda m, x: m.last(m.norm(m.layer(x).transpose(1, 2)).transpose(1, 2)), sequences, **layers)


def batch_norm_of_rows() -> Workload:
    return _workload(lambda m, x: m.norm(m.layer(x)), torch.randn(4, 8), layer=nn.Linear(8, 6), norm=nn.BatchNorm1d(6))


def instance_norm_of_the_input() -> Workload:
    """Nobody asks for the gradient of what is normalised."""
    return _workload(
        lambda m, x: m.norm(x.transpose(1, 2)), torch.randn(4, 16, 8), norm=nn.InstanceNorm1d(8, affine=True)
    )


def exponential_of_a_matrix() -> Workload:
    return _workload(lambda m, x: x @ torch.linalg.matrix_exp(m.layer.weight), torch.randn(4, 8), layer=nn.Linear(8, 8))


def policy_of_checked_arguments() -> Workload:
    """Arguments of distributions are refused unless all of them are valid."""

    def act(m, x):
        distribution = torch.distributions.Normal(m.mean(x), m.deviation(x).exp())
        chosen = torch.distributions.Categorical(logits=m.mean(x))
        return distribution.log_prob(distribution.rsample()).sum() + chosen.log_prob(chosen.sample()).sum()

    return _workload(act, torch.randn(6, 8), mean=nn.Linear(8, 4), deviation=nn.Linear(8, 4))


def numbers_that_are_checked() -> Workload:
    """Something is repeated until all is small, and what is not finite is refused in several ways."""

    def check(m, x):
        hidden = m.layer(x)
        while not (hidden.abs() < 100).all():
            hidden = hidden / 2
        assert torch.isfinite(hidden).all() and torch.isfinite(hidden.sum())
        assert not torch.isnan(hidden).any() and hidden.isnan().sum() == 0
        return hidden

    return _workload(check, torch.randn(4, 16), layer=nn.Linear(16, 16))


def arrays_as_tensors() -> Workload:
    """An array's memory is its own, be it written to; copies of it are the allocator's."""
    given = np.ones((4, 16), dtype=np.float32)

    def use(m, x):
        kept = torch.tensor(given > 0, dtype=torch.bool)
        written = torch.from_numpy(given.copy()).mul_(2)
        return m.layer(x).masked_fill(kept, 0) * torch.from_numpy(given)[:, :1] + written + torch.tensor(given)

    return _workload(use, torch.randn(4, 16), layer=nn.Linear(16, 16))


def layers_dropped_by_chance() -> Workload:
    """Which layers are left out is drawn by Python and by numpy."""

    def drop(m, x):
        for layer in m.layers:
            if random.random() < 0.5 or np.random.random() < 0.3:
                x = x + layer(x)
        return x + m.last(x)

    layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(12))
    return _workload(drop, torch.randn(4, 16), layers=layers, last=nn.Linear(16, 16))


def waves_put_together_again() -> Workload:
    """``istft`` asks whether its windows leave gaps, and refuses to go on where they do."""
    window = torch.ones(16)

    def there_and_back(m, x):
        spectrum = torch.stft(m.layer(x), 16, 4, window=window, return_complex=True)
        return torch.istft(spectrum, 16, 4, window=window)

    return _workload(there_and_back, torch.randn(2, 64), layer=nn.Linear(64, 64))


def experts_of_equal_loads() -> Workload:
    """Rows are sorted by the expert that they are for and split by how many each gets: every fourth of them."""

    def split(m, x):
        hidden = m.layer(x)
        chosen = (hidden[:, 0] * 0).long() + torch.arange(len(x)) % 4
        order = chosen.argsort()
        loads = torch.bincount(chosen, minlength=4).tolist()
        parts = [expert(part) for expert, part in zip(m.experts, hidden[order].split(loads), strict=True)]
        return torch.cat(parts)[order.argsort()]

    experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
    return _workload(split, torch.randn(32, 16), layer=nn.Linear(16, 16), experts=experts)


def counts_of_two_kinds() -> Workload:
    """Elements of two kinds, counted and weighed."""

    def count(m, x):
        kinds = (m.layer(x).flatten() > 1e6).long()
        kinds[0] = 1
        return m.layer(x) * torch.bincount(kinds).sum() + torch.bincount(kinds, x.flatten()).sum()

    return _workload(count, torch.randn(4, 16), layer=nn.Linear(16, 16))


def runs_of_one_element() -> Workload:
    def place(m, x):
        values, places, counts = torch.unique_consecutive(m.layer(x).argsort(-1), True, True)
        return m.layer(x) * values.sum() * places.sum() * counts.sum()

    return _workload(place, torch.randn(4, 16), layer=nn.Linear(16, 16))


def known_numbers_that_data_choose() -> Workload:
    """Which ones is not known, nor what they are."""

    def choose(m, x):
        hidden = m.layer(x)
        places = torch.zeros(8, dtype=torch.int64)[hidden.argmax(1)]
        shuffled = torch.arange(4)[torch.randperm(4)]
        return hidden + torch.zeros(5, 8)[places] + torch.ones(4, 8)[shuffled]

    return _workload(choose, torch.randn(4, 6), layer=nn.Linear(6, 8))
