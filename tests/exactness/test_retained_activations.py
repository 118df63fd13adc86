"""What a small network keeps for backward, to the byte, derived by hand.

Everywhere: inputs x [BATCH, IN] that need no gradient, Linear(IN, HIDDEN), something between, Linear(HIDDEN, OUT), and
the sum of the output as loss. `h` is one hidden matrix [BATCH, HIDDEN], `y` the output [BATCH, OUT]. What formulas save
is in torch's tools/autograd/derivatives.yaml; a linear layer saves its input for its weight's gradient, and its weight,
which is no activation. A variable of the program holds y and the loss until the step is over; sum() saves only a shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helpers import FLOAT32, INT64, assert_agrees, recording_of
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import PassSummary, summarize_ledger

BATCH, IN, HIDDEN, OUT = 4, 6, 10, 3
H, Y = BATCH * HIDDEN, BATCH * OUT
BFLOAT16 = 2
LOSS = 1


@dataclass(frozen=True)
class Trained:
    """Three steps of a network, the first one cold."""

    ledger: Ledger
    summary: PassSummary

    @property
    def retained(self) -> int:
        return self.summary.activations.retained_bytes

    @property
    def by_module(self) -> dict[str, int]:
        """Retained bytes of the modules that have any."""
        return {row.path: row.retained_bytes for row in self.summary.modules if row.retained_bytes}

    @property
    def recomputed(self) -> list[int]:
        """The sizes of the recomputed activations of the last step."""
        last, blocks = self.ledger.steps[-1], self.ledger.blocks
        return sorted(blocks.size[self.ledger.recomputed & (blocks.birth >= last.first)].tolist())


def train(
    build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32, autocast: torch.dtype | None = None
) -> Trained:
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase("build"):
            model = build().to(dtype)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            x = torch.randn(BATCH, IN, dtype=dtype)
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        for index in range(3):
            with running.recorder.step(index):
                one_step(running.recorder, model, optimizer, x, autocast)
    ledger = running.ledger
    assert_agrees(ledger)
    steady = ledger.blocks.birth >= ledger.steps[1].first
    assert not (steady & ledger.is_category(Category.UNATTRIBUTED)).any()
    trained = Trained(ledger, summarize_ledger(ledger))
    assert sum(trained.by_module.values()) == trained.retained
    return trained


def one_step(recorder: Any, model: nn.Module, optimizer: Any, x: Tensor, autocast: torch.dtype | None) -> None:
    optimizer.zero_grad()
    with recorder.phase("forward"), torch.autocast("cpu", autocast, enabled=autocast is not None):
        y = model(x)
        loss = y.sum()
    with recorder.phase("backward"):
        loss.backward()
    with recorder.phase("optimizer"):
        optimizer.step()
    del y, loss


def between(*modules: nn.Module) -> Callable[[], nn.Module]:
    """Linear, some modules, Linear; they are called 0, 1 …"""
    return lambda: nn.Sequential(nn.Linear(IN, HIDDEN), *modules, nn.Linear(HIDDEN, OUT))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh])
def test_an_activation_that_saves_its_result(activation):
    # relu, sigmoid and tanh save their result, and the next linear layer saves the same h as its input: one storage.
    # What the first linear layer made is used up.
    trained = train(between(activation()))
    assert trained.retained == (H + Y + LOSS) * FLOAT32
    assert trained.by_module == {"1": H * FLOAT32, "2": Y * FLOAT32, "": LOSS * FLOAT32}


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU])
def test_an_activation_that_saves_its_input(activation):
    # gelu and silu save their input, the first linear layer's h; the next linear layer saves their result, another h.
    trained = train(between(activation()))
    assert trained.retained == (2 * H + Y + LOSS) * FLOAT32
    assert trained.by_module == {"0": H * FLOAT32, "1": H * FLOAT32, "2": Y * FLOAT32, "": LOSS * FLOAT32}


def test_an_activation_in_place():
    # relu_ writes into the first linear layer's h, which the second one saves: that block was born in module 0.
    trained = train(between(nn.ReLU(inplace=True)))
    assert trained.retained == (H + Y + LOSS) * FLOAT32
    assert trained.by_module == {"0": H * FLOAT32, "2": Y * FLOAT32, "": LOSS * FLOAT32}


def test_dropout():
    # On the CPU dropout is x * noise, noise an h of x's dtype drawn by bernoulli_ and div_
    # (aten/src/ATen/native/Dropout.cpp); noise needs no gradient, so mul saves only noise. The second linear layer
    # saves the product.
    trained = train(between(nn.Dropout(0.5)))
    assert trained.retained == (2 * H + Y + LOSS) * FLOAT32
    assert trained.by_module == {"1": 2 * H * FLOAT32, "2": Y * FLOAT32, "": LOSS * FLOAT32}


def test_relu_and_dropout():
    # relu's result besides: it is not the second linear layer's input any more, but relu saved it.
    trained = train(between(nn.ReLU(), nn.Dropout(0.5)))
    assert trained.retained == (3 * H + Y + LOSS) * FLOAT32
    assert trained.by_module == {"1": H * FLOAT32, "2": 2 * H * FLOAT32, "3": Y * FLOAT32, "": LOSS * FLOAT32}


def test_dropout_of_nothing_keeps_nothing():
    trained = train(between(nn.ReLU(), nn.Dropout(0.0)))
    assert trained.retained == (H + Y + LOSS) * FLOAT32


def test_layer_norm():
    # native_layer_norm saves its input h, and mean and reciprocal deviation, one of each per row; its result is the
    # second linear layer's input.
    trained = train(between(nn.LayerNorm(HIDDEN)))
    assert trained.by_module == {
        "0": H * FLOAT32,
        "1": (H + 2 * BATCH) * FLOAT32,
        "2": Y * FLOAT32,
        "": LOSS * FLOAT32,
    }


def test_max_pooling_keeps_its_indices():
    # max_pool1d on [BATCH, HIDDEN] in windows of 2 goes through max_pool2d_with_indices: it saves its input h and the
    # indices (int64) of its BATCH * HIDDEN / 2 results; the second linear layer saves those results.
    trained = train(
        lambda: nn.Sequential(nn.Linear(IN, HIDDEN), nn.MaxPool1d(2), nn.Linear(HIDDEN // 2, OUT)),
    )
    half = H // 2
    assert trained.by_module == {
        "0": H * FLOAT32,
        "1": half * FLOAT32 + half * INT64,
        "2": Y * FLOAT32,
        "": LOSS * FLOAT32,
    }


def test_bfloat16_halves_everything():
    trained = train(between(nn.ReLU(), nn.Dropout(0.5)), dtype=torch.bfloat16)
    assert trained.retained == (3 * H + Y + LOSS) * BFLOAT16


def test_without_a_bias_nothing_changes():
    trained = train(
        lambda: nn.Sequential(nn.Linear(IN, HIDDEN, bias=False), nn.ReLU(), nn.Linear(HIDDEN, OUT, bias=False))
    )
    assert trained.retained == (H + Y + LOSS) * FLOAT32


def test_a_frozen_first_layer_keeps_nothing_before_the_activation():
    def build() -> nn.Module:
        model = between(nn.ReLU())()
        model[0].requires_grad_(False)
        return model

    # h is still the second linear layer's input; relu needs no gradient and saves nothing, but it is the same h.
    trained = train(build)
    assert trained.retained == (H + Y + LOSS) * FLOAT32
    # a frozen parameter has no gradient
    rows = {row.path: row.gradient_bytes for row in trained.summary.modules}
    assert rows["0"] == 0
    assert rows["2"] == (HIDDEN * OUT + OUT) * FLOAT32


# -- autocast ---------------------------------------------------------------------------------------------------------


def test_autocast_keeps_its_casts():
    # Each linear layer runs in bfloat16 on casts of its input, weight and bias, which autocast caches for parameters
    # until it ends, before backward. Kept for backward: the cast of x, that of the second weight, needed for h's
    # gradient (nobody needs x's), h after relu, and y. The loss: on the CPU sum is none of the operators that
    # autocast runs in float32 (aten/src/ATen/autocast_mode.cpp), so it is a bfloat16 as well.
    trained = train(between(nn.ReLU()), autocast=torch.bfloat16)
    assert trained.by_module == {
        "0": BATCH * IN * BFLOAT16,
        "1": H * BFLOAT16,
        "2": (HIDDEN * OUT + Y) * BFLOAT16,
        "": LOSS * BFLOAT16,
    }


def test_autocast_casts_are_activations_while_they_are_cached():
    trained = train(between(nn.ReLU()), autocast=torch.bfloat16)
    (forward,) = trained.ledger.periods.named("forward", trained.ledger.steps[1:2])
    chosen = trained.ledger.is_category(Category.ACTIVATIONS)
    weights = (IN * HIDDEN + HIDDEN + HIDDEN * OUT + OUT) * BFLOAT16
    # The fullest moment of forward is its last: all four casts of parameters are cached, and x's cast, h, y and the
    # loss live.
    fullest = weights + (BATCH * IN + H + Y + LOSS) * BFLOAT16
    assert trained.ledger.peak_of(chosen, forward).bytes == fullest


# -- checkpointing ----------------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """Linear(IN, HIDDEN) and ReLU, then a checkpointed block of two tanh layers, then Linear(HIDDEN, OUT)."""

    def __init__(self, reentrant: bool | None, preserve: bool = False, dropout: bool = False) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.preserve = preserve
        self.stem = nn.Sequential(nn.Linear(IN, HIDDEN), nn.ReLU())
        last: nn.Module = nn.Dropout(0.5) if dropout else nn.Tanh()
        self.block = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), last)
        self.head = nn.Linear(HIDDEN, OUT)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        if self.reentrant is None:
            hidden = self.block(hidden)
        else:
            hidden = checkpoint(self.block, hidden, use_reentrant=self.reentrant, preserve_rng_state=self.preserve)
        return self.head(hidden)


def test_without_checkpointing():
    # stem: relu's h; block: an h from each tanh; y; loss
    trained = train(lambda: Checkpointed(None))
    assert trained.by_module == {
        "stem.1": H * FLOAT32,
        "block.1": H * FLOAT32,
        "block.3": H * FLOAT32,
        "head": Y * FLOAT32,
        "": LOSS * FLOAT32,
    }
    assert trained.recomputed == []


def test_checkpointing_that_stops_early():
    # The block keeps nothing but its input, relu's h, and its output, the head's input. Recomputed is what backward
    # needs: the first tanh's h; the second tanh saves its result, so that is computed again as well, from the second
    # linear layer's h. The non-reentrant form stops as soon as everything saved is there: tanh saves its result, the
    # last thing computed.
    trained = train(lambda: Checkpointed(reentrant=False))
    assert trained.by_module == {
        "stem.1": H * FLOAT32,
        "block.3": H * FLOAT32,
        "head": Y * FLOAT32,
        "": LOSS * FLOAT32,
    }
    # four modules of the block, an h each
    assert trained.recomputed == [H * FLOAT32] * 4


def test_reentrant_checkpointing():
    # It too keeps the block's input and output, and computes all four modules again.
    trained = train(lambda: Checkpointed(reentrant=True))
    assert trained.by_module == {
        "stem.1": H * FLOAT32,
        "block.3": H * FLOAT32,
        "head": Y * FLOAT32,
        "": LOSS * FLOAT32,
    }
    assert trained.recomputed == [H * FLOAT32] * 4


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_with_dropout_keeps_the_generators_state(reentrant):
    # preserve_rng_state copies the CPU generator's state, a tensor of bytes, when the model's forward calls checkpoint.
    state_bytes = torch.get_rng_state().numel()
    trained = train(lambda: Checkpointed(reentrant, preserve=True, dropout=True))
    # dropout keeps noise and product when it is not recomputed; here only the product, the head's input, is left
    assert trained.by_module == {
        "stem.1": H * FLOAT32,
        "block.3": H * FLOAT32,
        "head": Y * FLOAT32,
        "": state_bytes + LOSS * FLOAT32,
    }


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_are_activations_in_backward(reentrant):
    trained = train(lambda: Checkpointed(reentrant))
    activations = trained.summary.activations
    # Most of the recomputed are alive at once when the last is made: both tanh results, and the linear layer's h that
    # the second tanh reads; reading the first linear layer's h is over.
    assert activations.recomputed_peak_bytes == 3 * H * FLOAT32
    (backward,) = trained.ledger.periods.named("backward", trained.ledger.steps[1:2])
    level = trained.ledger.category_peak(Category.ACTIVATIONS, backward)
    # Beside them what the step kept: stem's h, y and the loss. The block's output is gone: the head's backward, which
    # came first, was the last to need it.
    assert level.bytes == (3 * H + H + Y + LOSS) * FLOAT32


def test_checkpointing_saves_what_it_promises():
    plain, checkpointed = train(lambda: Checkpointed(None)), train(lambda: Checkpointed(reentrant=False))
    assert plain.retained - checkpointed.retained == H * FLOAT32


# -- the loss, variables, graphs that live on -------------------------------------------------------------------------


def test_cross_entropy():
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(IN, OUT)
            self.register_buffer("targets", torch.arange(BATCH) % OUT)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self.layer(x), self.targets)

    # log_softmax saves its result [BATCH, OUT]; nll_loss saves that too and its total weight (a float); y is used up.
    # The loss (a float) is held, and its sum, a float again.
    trained = train(Classifier)
    assert trained.by_module == {"": (Y + 1 + 1 + LOSS) * FLOAT32}


def test_held_by_autograd_against_held_by_a_variable():
    activations = train(between(nn.ReLU())).summary.activations
    assert activations.held_by_autograd_bytes == H * FLOAT32
    assert activations.held_by_python_bytes == (Y + LOSS) * FLOAT32


def test_what_a_custom_function_keeps_in_its_context():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.kept = x * 3  # not save_for_backward: hooks on saved tensors would miss it
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2 + 0 * ctx.kept

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(IN, HIDDEN)

        def forward(self, x: Tensor) -> Tensor:
            return Twice.apply(self.layer(x))

    # the function's own h and its result, which a variable holds; the layer's output is used up
    trained = train(Net)
    assert trained.by_module == {"": (H + H + LOSS) * FLOAT32}


def test_transient_activations():
    # inference-like: nothing of these is alive when backward begins. Linear's h while relu makes another: one at most
    # is transient, since relu's own is kept.
    activations = train(between(nn.ReLU())).summary.activations
    assert activations.transient_peak_bytes == H * FLOAT32
