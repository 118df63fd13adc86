"""Single operators and layers, as models use them: what is predicted of each is held against what it allocates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = ((7, 13), (300, 1000), (5000, 70))
"""Rows and columns of the tensors below."""


class Make:
    """Makes tensors and layers on a device, of a size; tensors of floating point want gradients unless told not to."""

    def __init__(self, device: str, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.rows, self.columns, self.dtype = device, rows, columns, dtype

    def floats(self, *shape: int, grad: bool = True) -> Tensor:
        """Numbers from 0 to 1, rows by columns if no shape is given. Beyond those probabilities end a GPU's process."""
        made = torch.empty(shape or (self.rows, self.columns), device=self.device, dtype=self.dtype).uniform_()
        return made.requires_grad_(grad)

    def fixed(self, *shape: int) -> Tensor:
        """The same without gradients, such as targets."""
        return self.floats(*shape, grad=False)

    def image(self) -> Tensor:
        """Two images of three channels."""
        return self.floats(2, 3, self.rows, self.columns)

    def whole(self, *shape: int, value: int = 1, dtype: torch.dtype = torch.int64) -> Tensor:
        """Whole numbers, all the same."""
        return torch.full(shape or (self.rows, self.columns), value, dtype=dtype).to(self.device)

    def layer(self, kind: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:
        """A layer with its parameters on the device."""
        return kind(*arguments, **options).to(self.device, self.dtype)


Run = Callable[[], Any]
CASES: dict[str, Callable[[Make], Run]] = {}


def case(prepare: Callable[[Make], Run]) -> Callable[[Make], Run]:
    """Enter what a function prepares, under the function's name."""
    CASES[prepare.__name__] = prepare
    return prepare


def _of_one(name: str, function: Callable[[Tensor], Any], *, grad: bool = True) -> None:
    def prepare(make: Make) -> Run:
        given = make.floats(grad=grad)
        return lambda: function(given)

    CASES[name] = prepare


def _of_image(name: str, function: Callable[[Tensor], Any]) -> None:
    def prepare(make: Make) -> Run:
        given = make.image()
        return lambda: function(given)

    CASES[name] = prepare


def _of_layer(name: str, function: Callable[[Make], nn.Module]) -> None:
    def prepare(make: Make) -> Run:
        layer, given = function(make), make.floats()
        return lambda: layer(given)

    CASES[name] = prepare


def _loss(name: str, function: Callable[..., Tensor], *others: str, classes: bool = False) -> None:
    """A loss in all its reductions; ``others`` are further arguments, one number for each column."""

    def reduced(reduction: str) -> Callable[[Make], Run]:
        def prepare(make: Make) -> Run:
            target = make.whole(make.rows) if classes else make.fixed()
            options = {other: make.fixed(make.columns) for other in others}
            given = make.floats()
            return lambda: function(given, target, reduction=reduction, **options)

        return prepare

    for reduction in ("mean", "sum", "none"):
        CASES[f"{name} {reduction}"] = reduced(reduction)


_loss("mse_loss", functional.mse_loss)
_loss("smooth_l1_loss", functional.smooth_l1_loss)
_loss("huber_loss", functional.huber_loss)
_loss("l1_loss", functional.l1_loss)
_loss("kl_div", lambda x, y, reduction: functional.kl_div(x, y, reduction=reduction.replace("mean", "batchmean")))
_loss("poisson_nll_loss", functional.poisson_nll_loss)
_loss("soft_margin_loss", functional.soft_margin_loss)
_loss("multilabel_soft_margin_loss", functional.multilabel_soft_margin_loss)
_loss("binary_cross_entropy", functional.binary_cross_entropy)
_loss("binary_cross_entropy weighted", functional.binary_cross_entropy, "weight")
_loss("binary_cross_entropy_with_logits", functional.binary_cross_entropy_with_logits)
_loss("binary_cross_entropy_with_logits weighted", functional.binary_cross_entropy_with_logits, "weight")
_loss("binary_cross_entropy_with_logits positive", functional.binary_cross_entropy_with_logits, "pos_weight")
_loss("cross_entropy", functional.cross_entropy, classes=True)
_loss("cross_entropy weighted", functional.cross_entropy, "weight", classes=True)
_loss("cross_entropy of probabilities", functional.cross_entropy)
_loss("multi_margin_loss", functional.multi_margin_loss, classes=True)


@case
def cross_entropy_smoothed(make: Make) -> Run:
    given, target = make.floats(), make.whole(make.rows)
    return lambda: functional.cross_entropy(given, target, label_smoothing=0.1)


@case
def cross_entropy_of_places(make: Make) -> Run:
    given, target = make.floats(2, 5, make.rows, make.columns), make.whole(2, make.rows, make.columns)
    return lambda: functional.cross_entropy(given, target, reduction="none")


@case
def multilabel_margin_loss(make: Make) -> Run:
    given, target = make.floats(), make.whole()
    return lambda: functional.multilabel_margin_loss(given, target)


@case
def cosine_embedding_loss(make: Make) -> Run:
    first, second, target = make.floats(), make.floats(), make.whole(make.rows)
    return lambda: functional.cosine_embedding_loss(first, second, target)


@case
def triplet_margin_loss(make: Make) -> Run:
    anchor, near, far = make.floats(), make.floats(), make.floats()
    return lambda: functional.triplet_margin_loss(anchor, near, far)


@case
def ctc_loss(make: Make) -> Run:
    given, target = make.floats(make.rows, 3, 20), make.whole(3, 4)
    return lambda: functional.ctc_loss(given.log_softmax(-1), target, [make.rows] * 3, [4] * 3)


@case
def ctc_loss_with_lengths_as_tensors(make: Make) -> Run:
    given, target = make.floats(make.rows, 3, 20), make.whole(3, 4)
    lengths = make.whole(3, value=make.rows), make.whole(3, value=4)
    return lambda: functional.ctc_loss(given.log_softmax(-1), target, *lengths)


for _name, _function in {
    "sum": torch.sum,
    "sum of rows": lambda x: x.sum(-1),
    "sum of columns": lambda x: x.sum(0),
    "sum of a transposed matrix": lambda x: x.t().sum(0),
    "largest of a transposed matrix": lambda x: x.t().amax(-1),
    "mean": torch.mean,
    "logsumexp": lambda x: x.logsumexp(-1),
    "logsumexp of columns": lambda x: x.logsumexp(0),
    "amax": lambda x: x.amax(-1),
    "max of rows": lambda x: x.max(-1).values,
    "argmax": lambda x: x.argmax(-1),
    "argmax of all": torch.argmax,
    "std": lambda x: x.std(-1),
    "var of columns": lambda x: x.var(0),
    "var of all": torch.var,
    "norm": lambda x: x.norm(dim=-1),
    "norm of all": torch.norm,
    "normalize": lambda x: functional.normalize(x, dim=-1),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "log_sigmoid": functional.logsigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "clamp": lambda x: x.clamp(0, 1),
    "dropout": lambda x: functional.dropout(x, 0.1, training=True),
    "alpha_dropout": lambda x: functional.alpha_dropout(x, 0.1, training=True),
    "gumbel_softmax": functional.gumbel_softmax,
    "cumsum": lambda x: x.cumsum(-1),
    "cumsum of all": lambda x: x.flatten().cumsum(-1),
    "roll": lambda x: x.roll(1, 0),
    "tril": torch.tril,
    "repeat_interleave": lambda x: x.repeat_interleave(3, 0),
    "pad": lambda x: functional.pad(x, (1, 2, 3, 4)),
    "sort": lambda x: x.sort(-1).values,
    "sort of columns": lambda x: x.sort(0).values,
    "topk": lambda x: x.topk(5).values,
}.items():
    _of_one(_name, _function)

for _name, _function in {
    "sum of a mask": lambda x: (x > 0).sum(),
    "sum of a mask's rows": lambda x: (x > 0).sum(-1),
    "any": lambda x: (x > 0).any(-1),
    "all of numbers": torch.all,
    "prod": lambda x: x.prod(-1),
    "cumsum of a mask": lambda x: (x > 0).cumsum(-1),
    "cumsum of a whole mask": lambda x: (x > 0).flatten().cumsum(-1),
    "one_hot": lambda x: functional.one_hot(torch.ones(x.shape, dtype=torch.int64, device=x.device), 20),
    "argsort of whole numbers": lambda x: x.to(torch.int64).flatten().argsort(),
    "bernoulli": torch.bernoulli,
}.items():
    _of_one(_name, _function, grad=False)

for _name, _function in {
    "reflection pad": lambda x: functional.pad(x, (1, 2, 3, 4), "reflect"),
    "circular pad": lambda x: functional.pad(x, (1, 2, 3, 4), "circular"),
    "max_pool2d": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 3, 2, 1),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 3),
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 3),
    "global average": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "local_response_norm": lambda x: functional.local_response_norm(x, 3),
    "instance_norm": functional.instance_norm,
    "unfold": lambda x: functional.unfold(x, 3),
    "unfold smaller": lambda x: functional.unfold(x, (3, 2), stride=(3, 3)),
    "bicubic": lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"),
    "bilinear": lambda x: functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    "dropout2d": lambda x: functional.dropout2d(x, 0.1),
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x.transpose(0, 1).repeat(1, 2, 1, 1), 2),
}.items():
    _of_image(_name, _function)

_of_layer("linear", lambda make: make.layer(nn.Linear, make.columns, 8))
_of_layer("layer_norm", lambda make: make.layer(nn.LayerNorm, make.columns))
_of_layer("rms_norm", lambda make: make.layer(nn.RMSNorm, make.columns))
_of_layer("batch_norm of rows", lambda make: make.layer(nn.BatchNorm1d, make.columns))
_of_layer("batch_norm in evaluation", lambda make: make.layer(nn.BatchNorm1d, make.columns).eval())
_of_layer("lstm cell", lambda make: make.layer(nn.LSTMCell, make.columns, 7))
_of_layer("gru cell", lambda make: make.layer(nn.GRUCell, make.columns, 7))
_of_layer("rnn cell", lambda make: make.layer(nn.RNNCell, make.columns, 7))
_of_layer("prelu", lambda make: make.layer(nn.PReLU, make.columns))


@case
def linear_of_transposed(make: Make) -> Run:
    layer, given = make.layer(nn.Linear, make.columns, 8), make.floats(3, make.rows, make.columns)
    return lambda: layer(given.transpose(0, 1))


@case
def group_norm(make: Make) -> Run:
    layer, given = make.layer(nn.GroupNorm, 2, 4), make.floats(2, 4, make.rows, make.columns)
    return lambda: layer(given)


@case
def multihead_attention(make: Make) -> Run:
    layer, given = make.layer(nn.MultiheadAttention, 16, 2, batch_first=True), make.floats(2, min(make.rows, 300), 16)
    return lambda: layer(given, given, given)[0]


@case
def matrix_product(make: Make) -> Run:
    first, second = make.floats(), make.floats(make.columns, 5)
    return lambda: first @ second


@case
def einsum(make: Make) -> Run:
    first, second = make.floats(), make.floats(make.rows, 5)
    return lambda: torch.einsum("bi,bj->ij", first, second)


@case
def where(make: Make) -> Run:
    first, second = make.floats(), make.floats()
    return lambda: torch.where(first > 0, first, second)


@case
def masked_fill(make: Make) -> Run:
    given, mask = make.floats(), make.whole(dtype=torch.bool)
    return lambda: given.masked_fill(mask, -1e9)


@case
def index(make: Make) -> Run:
    given, places = make.floats(), make.whole(50)
    return lambda: given[places]


@case
def gather(make: Make) -> Run:
    given, places = make.floats(), make.whole(make.rows, 3)
    return lambda: given.gather(-1, places)


@case
def index_add(make: Make) -> Run:
    given, places = make.floats(), make.whole(make.rows)
    return lambda: torch.zeros(20, make.columns, device=make.device, dtype=make.dtype).index_add(0, places, given)


@case
def scatter_add(make: Make) -> Run:
    given, places = make.floats(), make.whole()
    return lambda: torch.zeros_like(given).scatter_add(0, places, given)


@case
def embedding(make: Make) -> Run:
    table, words = make.floats(100, 16), make.whole()
    return lambda: functional.embedding(words, table)


@case
def embedding_of_many_words(make: Make) -> Run:
    table, words = make.floats(50_257, 16), make.whole(20 * make.rows)
    return lambda: functional.embedding(words, table)


@case
def embedding_of_narrow_indices(make: Make) -> Run:
    table, words = make.floats(1000, 16), make.whole(20 * make.rows, dtype=torch.int32)
    return lambda: functional.embedding(words, table)


@case
def bags_of_narrow_indices(make: Make) -> Run:
    table, words = make.floats(1000, 16), make.whole(10 * make.rows, 2, dtype=torch.int32)
    return lambda: functional.embedding_bag(words, table)


@case
def topk_of_wide_numbers(make: Make) -> Run:
    given = Make(make.device, make.rows, make.columns, torch.float64).floats(4, 100_000)
    return lambda: given.topk(2).values


@case
def batch_norm_of_a_transposed_matrix(make: Make) -> Run:
    layer, given = make.layer(nn.BatchNorm1d, make.rows), make.floats()
    return lambda: layer(given.t())


@case
def layer_norm_of_what_lies_across(make: Make) -> Run:
    layer, given = make.layer(nn.LayerNorm, make.columns), make.floats(3, make.columns, make.rows)
    return lambda: layer(given.transpose(1, 2)).square()


@case
def layer_norm_whose_gradient_lies_across(make: Make) -> Run:
    layer, given = make.layer(nn.LayerNorm, make.columns), make.floats(3, make.rows, make.columns)
    return lambda: layer(given).transpose(1, 2).mean(2)


@case
def logsumexp_of_whole_numbers(make: Make) -> Run:
    given = make.whole()
    return lambda: given.logsumexp(1)


@case
def lstm_cell_without_bias(make: Make) -> Run:
    layer, given = make.layer(nn.LSTMCell, make.columns, 7, bias=False), make.floats()
    return lambda: layer(given)[0]


@case
def embedding_by_frequency(make: Make) -> Run:
    table, words = make.floats(100, 16), make.whole(make.rows)
    return lambda: functional.embedding(words, table, scale_grad_by_freq=True)


@case
def embedding_bag(make: Make) -> Run:
    table, words = make.floats(100, 16), make.whole()
    return lambda: functional.embedding_bag(words, table, mode="sum")


@case
def embedding_bag_means(make: Make) -> Run:
    table, words, bags = make.floats(50_257, 16), make.whole(make.rows), make.whole(5, value=0)
    return lambda: functional.embedding_bag(words, table, bags)


@case
def embedding_bag_maxima(make: Make) -> Run:
    table, words, bags = make.floats(100, 16), make.whole(make.rows), make.whole(5, value=0)
    return lambda: functional.embedding_bag(words, table, bags, mode="max")


@case
def clipped_gradients(make: Make) -> Run:
    parameters = [make.floats(), make.floats(make.rows), make.floats(300, 300)]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    return lambda: nn.utils.clip_grad_norm_(parameters, 1.0)


@case
def sort_of_long_rows(make: Make) -> Run:
    given = make.floats(max(make.rows // 100, 1), 20_000)
    return lambda: given.sort(-1).values


@case
def sort_of_many_rows(make: Make) -> Run:
    given = make.floats(make.rows // 2 + 128, 5000)
    return lambda: given.sort(-1).values


@case
def topk_of_long_rows(make: Make) -> Run:
    given = make.floats(max(make.rows // 100, 1), 20_000)
    return lambda: given.topk(8).values


@case
def chunked_cross_entropy(make: Make) -> Run:
    given, weight, target = make.floats(make.rows, 32), make.floats(make.columns, 32), make.whole(make.rows)
    if not hasattr(functional, "linear_cross_entropy"):
        return lambda: functional.cross_entropy(given @ weight.t(), target)
    options = nn.LinearCrossEntropyOptions()
    return lambda: functional.linear_cross_entropy(given, weight, target, options=options)


def _attention(dtype: torch.dtype, masked: bool = False, **options: Any) -> Callable[[Make], Run]:
    def prepare(make: Make) -> Run:
        make = Make(make.device, make.rows, make.columns, dtype)
        query, key, value = (make.floats(2, 4, 128, 64) for _ in range(3))
        mask = make.whole(128, 128, dtype=torch.bool).tril() if masked else None
        return lambda: functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)

    return prepare


@case
def attention_of_few_queries(make: Make) -> Run:
    make = Make(make.device, make.rows, make.columns, torch.bfloat16)
    query, key, value = (make.floats(1, 3, make.columns, 64) for _ in range(3))
    return lambda: functional.scaled_dot_product_attention(query, key, value)


CASES["attention float32"] = _attention(torch.float32)
CASES["attention float32 masked"] = _attention(torch.float32, masked=True)
CASES["attention float32 dropout"] = _attention(torch.float32, dropout_p=0.1)
CASES["attention bfloat16 causal"] = _attention(torch.bfloat16, is_causal=True)
CASES["attention bfloat16 masked"] = _attention(torch.bfloat16, masked=True)
CASES["attention bfloat16 dropout"] = _attention(torch.bfloat16, dropout_p=0.1)


def _of_places(name: str, function: Callable[[Tensor], Tensor], *shape: int) -> None:
    """What lies across, what is summed, so that its gradient is one number repeated, and images by their channels.

    Args:
        name: of the cases.
        function: what they run.
        shape: before rows and columns; images have two sizes there, volumes three.
    """

    def enter(how: str, reads: Callable[[Tensor], Tensor], gives: Callable[[Tensor], Tensor]) -> None:
        def prepare(make: Make) -> Run:
            given = make.floats(*shape, make.rows, make.columns)
            return lambda: gives(function(reads(given)))

        CASES[f"{name} {how}"] = prepare

    enter("across", lambda given: given.mT, lambda made: made)
    enter("summed", lambda given: given, torch.sum)
    enter("across summed", lambda given: given.mT, torch.sum)
    if len(shape) > 1:
        layout = torch.channels_last if len(shape) == 2 else torch.channels_last_3d
        enter("by channels", lambda given: given.to(memory_format=layout), lambda made: made)
        enter("by channels summed", lambda given: given.to(memory_format=layout), torch.sum)


_of_places("softmax", lambda given: given.softmax(-1))
_of_places("log_softmax", lambda given: given.log_softmax(-1))
_of_places("cumsum", lambda given: given.cumsum(0))
_of_places("cumsum of every second column", lambda given: given[:, ::2].cumsum(0))
_of_places("cumsum in float64", lambda given: given[:, ::2].cumsum(0, dtype=torch.float64))
_of_places("topk of long rows", lambda given: given.repeat(30, 1).mT.topk(3).values)
_of_places("cummax", lambda given: given.cummax(1).values)
_of_places("logcumsumexp", lambda given: given.logcumsumexp(1))
_of_places("topk", lambda given: given.topk(3).values)
_of_places("kthvalue", lambda given: given.kthvalue(2).values)
_of_places("max", torch.max)
_of_places("rms_norm", lambda given: functional.rms_norm(given, given.shape[-1:]))
_of_places("roll", lambda given: given.roll((1, 2), (0, 1)))
_of_places("elu", functional.elu)
_of_places("softplus", functional.softplus)
_of_places("hardtanh", functional.hardtanh)
_of_places("hardswish", functional.hardswish)
_of_places("hardsigmoid", functional.hardsigmoid)
_of_places("logit", torch.logit)
_of_places("atan2", lambda given: torch.atan2(given, given))
_of_places("trace", lambda given: given[:7, :7].trace())
for _channels in (3, 8):
    for _kind, _pool in {
        "average": functional.avg_pool2d,
        "maximum": functional.max_pool2d,
        "adaptive average": functional.adaptive_avg_pool2d,
        "adaptive maximum": functional.adaptive_max_pool2d,
    }.items():
        _of_places(f"{_kind} of {_channels}", lambda given, pool=_pool: pool(given, 3), 2, _channels)
        _of_places(f"{_kind} of one of {_channels}", lambda given, pool=_pool: pool(given, 3), _channels)
    for _mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        _of_places(
            f"{_mode} of {_channels}",
            lambda given, mode=_mode: functional.interpolate(given, (99, 44), mode=mode),
            *(2, _channels),
        )
    _of_places(
        f"bilinear smoothed of {_channels}",
        lambda given: functional.interpolate(given, (99, 44), mode="bilinear", antialias=True),
        *(2, _channels),
    )
for _mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
    _of_places(
        f"{_mode} to the same size",
        lambda given, mode=_mode: functional.interpolate(given, given.shape[2:], mode=mode),
        *(2, 3),
    )
_of_places("reflected in a row", lambda given: functional.pad(given, (1, 2), "reflect"))
_of_places("reflected in space", lambda given: functional.pad(given, (1, 2) * 3, "reflect"), 1, 4, 3)
_of_places("reflected", lambda given: functional.pad(given, (1, 2, 1, 2), "reflect"), 2, 3)
for _kind, _pool in {
    "average": functional.avg_pool3d,
    "maximum": functional.max_pool3d,
    "adaptive average": functional.adaptive_avg_pool3d,
    "adaptive maximum": functional.adaptive_max_pool3d,
}.items():
    _of_places(f"{_kind} of volumes", lambda given, pool=_pool: pool(given, 3), 1, 4, 3)
    _of_places(f"{_kind} of one volume", lambda given, pool=_pool: pool(given, 3), 4, 3)
for _mode in ("nearest", "trilinear"):
    _of_places(
        f"{_mode} of volumes", lambda given, mode=_mode: functional.interpolate(given, (5, 99, 44), mode=mode), 1, 4, 3
    )


@case
def tokens_counted(make: Make) -> Run:
    mask = make.whole(dtype=torch.bool)
    return lambda: (mask[:, 1:].cumsum(-1), mask[:, None].expand(-1, 3, -1).cumsum(-1), mask.mT.cumsum(-1))


@case
def places_of_a_mask_filled(make: Make) -> Run:
    given, source = make.fixed(2, make.rows, make.columns), make.fixed(2 * make.rows, make.columns)
    mask = make.whole(2, make.rows, 1, dtype=torch.bool)
    return lambda: given.masked_scatter(mask, source)


def _for_inference(run: Run) -> Run:
    def without_gradients() -> Any:
        with torch.inference_mode():
            return run()

    return without_gradients


def _fused(heads: int = 2, masked: str = "", *, weights: bool = False) -> Callable[[Make], Run]:
    """Self-attention for inference; ``masked`` is the option of a mask, by places or by sequences."""

    def prepare(make: Make) -> Run:
        layer = make.layer(nn.MultiheadAttention, 16, heads, batch_first=True).eval()
        length = min(make.rows, 300)
        given = make.fixed(2, length, 16)
        shape = (length if masked == "attn_mask" else 2, length)
        options = {masked: make.whole(*shape, value=0, dtype=torch.bool)} if masked else {}
        return _for_inference(lambda: layer(given, given, given, need_weights=weights, **options))

    return prepare


CASES["fused attention"] = _fused()
CASES["fused attention with weights"] = _fused(weights=True)
CASES["fused attention of narrow heads"] = _fused(heads=4)
CASES["fused attention masked"] = _fused(masked="attn_mask")
CASES["fused attention padded"] = _fused(masked="key_padding_mask")


def _encoder(**options: Any) -> Callable[[Make], Run]:
    def prepare(make: Make) -> Run:
        layer = make.layer(nn.TransformerEncoderLayer, 16, 2, 32, batch_first=True, **options).eval()
        given = make.fixed(2, min(make.rows, 300), 16)
        return _for_inference(lambda: layer(given))

    return prepare


CASES["encoder layer"] = _encoder()
CASES["encoder layer norm first"] = _encoder(norm_first=True)
CASES["encoder layer gelu"] = _encoder(activation="gelu")


def _parts_written(given: Tensor) -> Tensor:
    made = given * 2
    made[:, 2:6].mul_(2)
    made[1:, :8][:, 2:].neg_()
    return made.tanh()


def _written_through_another(given: Tensor) -> Tensor:
    image = (given * 2).flatten(2)
    image.transpose(1, 2)[:, :1].add_(1)
    return image * image


_of_image("view written to", lambda given: (given * 2).flatten(1).relu_())
_of_image("transposed view written to", lambda given: functional.dropout((given * 2).flatten(2).mT, 0.5, True, True))
_of_one("parts written to", _parts_written)
_of_image("view of what another view wrote to", _written_through_another)

_LAYERS: dict[str, Callable[[Make], tuple[nn.Module, Tensor]]] = {
    "conv1d": lambda make: (nn.Conv1d(5, 8, 3, padding=1), make.floats(2, 5, make.rows)),
    "conv1d by channels": lambda make: (nn.Conv1d(5, 5, 3, groups=5), make.floats(2, 5, make.rows)),
    "conv_transpose1d": lambda make: (nn.ConvTranspose1d(5, 8, 3), make.floats(2, 5, make.rows)),
    "conv2d": lambda make: (nn.Conv2d(3, 8, 3, padding=1), make.image()),
    "conv2d without bias": lambda make: (nn.Conv2d(3, 8, 3, 2, bias=False), make.image()),
    "conv2d of fixed images": lambda make: (nn.Conv2d(3, 8, 3), make.image().detach()),
    "conv2d by points": lambda make: (nn.Conv2d(3, 8, 1), make.image()),
    "conv2d to one channel": lambda make: (nn.Conv2d(3, 1, 3), make.image()),
    "conv2d by groups": lambda make: (nn.Conv2d(6, 8, 3, groups=2), make.floats(2, 6, make.rows, 9)),
    "conv2d by channels": lambda make: (nn.Conv2d(3, 6, 3, groups=3, padding=1), make.image()),
    "conv2d dilated": lambda make: (nn.Conv2d(3, 8, 3, dilation=2, padding=2), make.image()),
    "conv2d to the same size": lambda make: (nn.Conv2d(3, 8, (2, 3), padding="same"), make.image()),
    "conv_transpose2d": lambda make: (nn.ConvTranspose2d(3, 8, 2, 2), make.image()),
    "conv3d": lambda make: (nn.Conv3d(3, 4, 3, padding=1), make.floats(2, 3, 4, make.rows, 5)),
    "conv_transpose3d": lambda make: (nn.ConvTranspose3d(3, 4, 2, 2), make.floats(2, 3, 4, make.rows, 5)),
    "batch_norm1d": lambda make: (nn.BatchNorm1d(5), make.floats(2, 5, make.rows)),
    "batch_norm2d": lambda make: (nn.BatchNorm2d(3), make.image()),
    "batch_norm2d in evaluation": lambda make: (nn.BatchNorm2d(3).eval(), make.image()),
    "batch_norm2d in evaluation then conv2d": lambda make: (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 3, 1)).eval(),
        make.image(),
    ),
    "group_norm of images": lambda make: (nn.GroupNorm(3, 6), make.floats(2, 6, make.rows, 9)),
    "reflected border of images": lambda make: (nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 8, 3)), make.image()),
    "batch_norm3d": lambda make: (nn.BatchNorm3d(3), make.floats(2, 3, 4, make.rows, 5)),
    "conv2d and batch_norm2d": lambda make: (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, 2), nn.BatchNorm2d(3)),
        make.image(),
    ),
}


def _lies_otherwise(given: Tensor, way: Callable[[Tensor], Tensor]) -> Tensor:
    """Another tensor of the shape that ``way`` gives, in order."""
    return way(given.detach()).contiguous().requires_grad_(given.requires_grad)


def _across(layer: nn.Module, given: Tensor) -> Run:
    otherwise = _lies_otherwise(given, lambda x: x.movedim(1, -1))
    return lambda: layer(otherwise.movedim(-1, 1))


def _turned(layer: nn.Module, given: Tensor) -> Run:
    otherwise = _lies_otherwise(given, lambda x: x.transpose(0, 1))
    return lambda: layer(otherwise.transpose(0, 1))


def _frozen(layer: nn.Module, given: Tensor) -> Run:
    layer.requires_grad_(False)
    return lambda: layer(given)


def _weights_together(layer: nn.Module, given: Tensor) -> Run:
    layer.to(memory_format=torch.channels_last)
    return lambda: layer(given)


_WAYS: dict[str, Callable[[nn.Module, Tensor], Run]] = {
    "": lambda layer, given: lambda: layer(given),
    " across": _across,
    " turned": _turned,
    " averaged": lambda layer, given: lambda: layer(given).mean(),
    " then turned": lambda layer, given: lambda: layer(given).transpose(0, 1).contiguous(),
    " then across": lambda layer, given: lambda: layer(given).movedim(1, -1).contiguous(),
    " across both ways": lambda layer, given: (lambda run: lambda: run().movedim(1, -1))(_across(layer, given)),
    " frozen": _frozen,
    " with weights together": _weights_together,
    " all together": lambda layer, given: _across(layer.to(memory_format=torch.channels_last), given),
}
CUDNN: set[str] = set()
"""Cases that are run with cuDNN, of whose workspaces nothing is known; all others are run without."""


def _of_cudnn(name: str, way: str) -> None:
    def prepare(make: Make) -> Run:
        layer, given = _LAYERS[name](make)
        return _WAYS[way](layer.to(make.device), given)

    CASES[name + way] = prepare
    CUDNN.add(name + way)


_OF_IMAGES = [name for name in _LAYERS if "2d" in name or "images" in name]
for _name in _LAYERS:
    for _way in _WAYS:
        if "together" not in _way or _name in _OF_IMAGES:
            _of_cudnn(_name, _way)


@case
def block_of_convnext(make: Make) -> Run:
    layers = nn.Conv2d(6, 6, 7, padding=3, groups=6), nn.LayerNorm(6), nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6)
    first, *rest = (layer.to(make.device) for layer in layers)
    given = make.floats(2, 6, make.rows, 9)
    return lambda: given + nn.Sequential(*rest)(first(given).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@case
def convolved_words(make: Make) -> Run:
    words, table = make.whole(2, make.rows), make.layer(nn.Embedding, 10, 16)
    layer, norm = make.layer(nn.Conv1d, 16, 16, 5, padding=2), make.layer(nn.LayerNorm, 16)
    return lambda: norm(functional.gelu(layer(table(words).transpose(1, 2))).transpose(1, 2))


@case
def convolved_tokens(make: Make) -> Run:
    layer, before = make.layer(nn.Conv2d, 8, 8, 3, padding=1, groups=8), make.layer(nn.Linear, 4, 8)
    given = make.floats(2, make.rows * 5, 4)
    return lambda: layer(before(given).transpose(1, 2).view(2, 8, make.rows, 5)).flatten(2).transpose(1, 2)


@case
def up_and_beside(make: Make) -> Run:
    up, layer = make.layer(nn.ConvTranspose2d, 6, 3, 2, 2), make.layer(nn.Conv2d, 6, 4, 3, padding=1)
    low, beside = make.floats(2, 6, make.rows, 5), make.floats(2, 3, 2 * make.rows, 10)
    return lambda: layer(torch.cat((up(low), beside), 1)).relu()


CUDNN.update(("block_of_convnext", "convolved_words", "convolved_tokens", "up_and_beside"))
DIFFERS = {
    "chunked_cross_entropy": "a few numbers of eight bytes",
}
"""Cases whose events are known not to be predicted one by one, and why; their peaks are."""
