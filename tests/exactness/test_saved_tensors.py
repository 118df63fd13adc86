"""Retained activations against the autograd graph itself: whatever its nodes have saved, found by walking them.

The ledger goes by lifetime alone: born in forward, alive when backward begins. The graph knows what it saved, and both
must come to the same bytes, with what variables of the program hold besides.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_agrees, recording_of, storages, tensors_within
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import summarize_ledger
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes

BATCH, WIDTH = 3, 8


def nodes_of(root: Any) -> Iterator[Any]:
    """Every node of the graph that a tensor's gradient would go through."""
    seen, pending = set(), [root]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending.extend(following for following, _ in node.next_functions)


def saved_by(node: Any) -> Iterator[Tensor]:
    """What a node has saved: built-in formulas show it as attributes, functions written in Python as a list."""
    for name in dir(node):
        if name.startswith("_saved_"):
            yield from tensors_within([getattr(node, name)])
    if hasattr(node, "saved_tensors"):
        yield from tensors_within([list(node.saved_tensors)])


def kept_by_hand(model: nn.Module, given: Any, *variables: Tensor) -> int:
    """Bytes of all storages that variables hold or the last one's graph saved, without the model's own and inputs."""
    kept = storages(variables)
    for node in nodes_of(variables[-1].grad_fn):
        kept.update(storages(saved_by(node)))
    own = storages([*model.parameters(), *model.buffers(), *tensors_within([given])])
    return sum(size for address, size in kept.items() if address not in own)


def train(build: Callable[[], tuple[nn.Module, Tensor]]) -> tuple[Ledger, list[int]]:
    """Three steps; for each what the graph and the variables hold when backward is about to begin."""
    torch.manual_seed(0)
    kept = []
    with recording_of() as running:
        with running.recorder.phase("build"):
            model, x = build()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        for index in range(3):
            with running.recorder.step(index):
                optimizer.zero_grad()
                y = model(x)
                loss = y.float().square().mean()
                kept.append(kept_by_hand(model, x, y, loss))
                loss.backward()
                optimizer.step()
                del y, loss
    return running.ledger, kept


class Calls(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def between(function: Callable[[Tensor], Tensor]) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (Calls(function), torch.randn(BATCH, WIDTH))


def attention(x: Tensor) -> Tensor:
    heads = x.view(1, BATCH, 2, WIDTH // 2).transpose(1, 2)
    return functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).reshape(x.shape)


class Rounded(torch.autograd.Function):
    """Saves its input and a tensor of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rest = x - x.round()
        ctx.save_for_backward(x, rest)
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, rest = ctx.saved_tensors
        return gradient * x * rest


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "softmax": lambda x: x.softmax(dim=-1),
    "log_softmax of half of it": lambda x: torch.cat([x[:, :4].log_softmax(dim=-1), x[:, 4:]], dim=1),
    "dropout": lambda x: functional.dropout(x, 0.5),
    "layer norm": lambda x: functional.layer_norm(x, (WIDTH,)),
    "group norm": lambda x: functional.group_norm(x, 2),
    "max pooling": lambda x: functional.max_pool1d(x, 3, stride=1, padding=1),
    "convolution": lambda x: functional.conv1d(x.unsqueeze(1), torch.ones(1, 1, 3), padding=1).squeeze(1),
    "attention": attention,
    "gather": lambda x: x.gather(1, torch.arange(WIDTH).flip(0).expand(BATCH, WIDTH)),
    "index": lambda x: x[:, torch.arange(WIDTH).flip(0)],
    "where": lambda x: torch.where(x > 0, x, x * x),
    "sort": lambda x: x.sort(dim=1)[0],
    "top-k": lambda x: functional.pad(x.topk(4, dim=1)[0], (0, 4)),
    "cumulative product": lambda x: x.cumprod(dim=1),
    "in place": lambda x: x.mul(2).add_(1).relu_(),
    "views": lambda x: x.view(-1)[: BATCH * WIDTH].view(BATCH, WIDTH).t().contiguous().t(),
    "einsum": lambda x: torch.einsum("bi,bj->bj", x, x),
    "own function": Rounded.apply,
    "norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "half precision in between": lambda x: x.bfloat16().tanh().float(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    ledger, kept = train(between(FUNCTIONS[name]))
    assert_agrees(ledger)
    assert summarize_ledger(ledger).activations.retained_bytes == kept[1] == kept[2]


class Recurrent(nn.Module):
    """An nn.LSTM of two layers over embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, WIDTH)
        self.recurrence = nn.LSTM(WIDTH, WIDTH, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.recurrence(self.embedding(tokens))[0]


class Images(nn.Module):
    """A residual block as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = torch.relu_(self.second(hidden) + hidden)
        return self.head(hidden)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "gpt2": lambda: (
        Gpt2(Gpt2Sizes(vocabulary=31, context=8, width=8, layers=2, heads=2)),
        torch.randint(31, (2, 8)),
    ),
    "lstm": lambda: (Recurrent(), torch.randint(11, (BATCH, 5))),
    "residual block": lambda: (Images(), torch.randn(2, 2, 8, 8)),
    "encoder": lambda: (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
        torch.randn(2, 5, WIDTH),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    ledger, kept = train(MODELS[name])
    assert_agrees(ledger)
    assert summarize_ledger(ledger).activations.retained_bytes == kept[1] == kept[2]
