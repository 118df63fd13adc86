"""Every byte of a whole step, derived by hand: what is alive at each phase's peak, by category, module and operator.

The network is Linear(IN, HIDDEN), ReLU, Linear(HIDDEN, OUT) on x [BATCH, IN]; the loss is the sum of y * t. All figures
below are numbers of float32 elements.
"""

from functools import cache

import torch
from torch import nn

from helpers import FLOAT32, assert_agrees, recording_of
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import PassSummary, summarize_ledger

BATCH, IN, HIDDEN, OUT = 4, 6, 10, 3
WEIGHT_1, BIAS_1, WEIGHT_2, BIAS_2 = HIDDEN * IN, HIDDEN, OUT * HIDDEN, OUT
PARAMETERS = WEIGHT_1 + BIAS_1 + WEIGHT_2 + BIAS_2
H, Y = BATCH * HIDDEN, BATCH * OUT  # a hidden matrix, an output
INPUTS = BATCH * IN + Y  # x and t
LOSS = ROOT = 1  # the loss, and the 1 that backward starts from, which Tensor.backward holds until it returns


@cache
def train(momentum: float = 0.0) -> PassSummary:
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase("build"):
            model = nn.Sequential(nn.Linear(IN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, foreach=False)
            x, t = torch.randn(BATCH, IN), torch.randn(BATCH, OUT)
        running.recorder.watch(model)
        running.recorder.mark_inputs([x, t])
        for index in range(3):
            with running.recorder.step(index):
                optimizer.zero_grad()
                with running.recorder.phase("forward"):
                    y = model(x)
                    loss = (y * t).sum()
                with running.recorder.phase("backward"):
                    loss.backward()
                with running.recorder.phase("optimizer"):
                    optimizer.step()
                del y, loss
    assert_agrees(running.ledger)
    return summarize_ledger(running.ledger)


def elements(composition: dict[Category, int]) -> dict[Category, float]:
    """Categories that have bytes, in elements."""
    return {category: size / FLOAT32 for category, size in composition.items() if size}


def test_the_peak_of_forward():
    # relu makes its h while the first layer's is still there; later there is one h, y, y * t and the loss: 40 + 2 *
    # 12 + 1.
    assert 2 * H > H + 2 * Y + LOSS
    assert elements(train().phases["forward"].by_category) == {
        Category.PARAMETERS: PARAMETERS,
        Category.INPUTS: INPUTS,
        Category.ACTIVATIONS: 2 * H,
    }


def test_the_peak_of_backward_and_of_everything():
    # The second layer's node makes gradients of its weight, bias and input from that of y, which is then gone. Relu's
    # node makes another h from its input's gradient, the first h, and the h it has saved: three of them, before it
    # lets go. What follows is less: the first layer's node holds one h and makes that layer's gradients.
    at_relu = (H + Y + LOSS) + (WEIGHT_2 + BIAS_2) + (2 * H + ROOT)
    at_first_layer = (Y + LOSS) + PARAMETERS + (H + ROOT)
    at_second_layer = (H + Y + LOSS) + (WEIGHT_2 + BIAS_2) + (Y + H + ROOT)
    assert at_relu > max(at_first_layer, at_second_layer)
    summary = train()
    assert summary.peak.bytes == (PARAMETERS + INPUTS + at_relu) * FLOAT32
    assert (summary.peak.phase, summary.peak.module) == ("backward", "1")
    assert summary.peak.operator == "aten::threshold_backward"
    assert elements(summary.peak.by_category) == {
        Category.PARAMETERS: PARAMETERS,
        Category.INPUTS: INPUTS,
        Category.ACTIVATIONS: H + Y + LOSS,
        Category.GRADIENTS: WEIGHT_2 + BIAS_2,
        Category.ACTIVATION_GRADIENTS: 2 * H + ROOT,
    }


def test_the_peak_of_the_optimizer():
    # SGD one parameter at a time works in place: nothing of its own
    assert elements(train().phases["optimizer"].by_category) == {
        Category.PARAMETERS: PARAMETERS,
        Category.INPUTS: INPUTS,
        Category.ACTIVATIONS: Y + LOSS,
        Category.GRADIENTS: PARAMETERS,
    }


def test_the_cold_step_of_sgd_with_momentum():
    # the buffers are made in the first step, copies of the gradients, and kept: the cold optimizer phase is the
    # highest moment
    summary = train(momentum=0.9)
    assert elements(summary.cold.by_category) == {
        Category.PARAMETERS: PARAMETERS,
        Category.INPUTS: INPUTS,
        Category.ACTIVATIONS: Y + LOSS,
        Category.GRADIENTS: PARAMETERS,
        Category.OPTIMIZER_STATE: PARAMETERS,
    }
    assert summary.optimizer_state == {"momentum_buffer": PARAMETERS * FLOAT32}


def test_every_modules_share():
    rows = {row.path: row for row in train().modules}
    shares = {
        path: tuple(
            size / FLOAT32
            for size in (row.parameter_bytes, row.retained_bytes, row.transient_peak_bytes, row.gradient_bytes)
        )
        for path, row in rows.items()
    }
    # transient: the first layer's h; y * t is made outside of the modules
    assert shares == {
        "": (0, LOSS, Y, 0),
        "0": (WEIGHT_1 + BIAS_1, 0, H, WEIGHT_1 + BIAS_1),
        "1": (0, H, 0, 0),
        "2": (WEIGHT_2 + BIAS_2, Y, 0, WEIGHT_2 + BIAS_2),
    }


def test_inference():
    with recording_of() as running:
        with running.recorder.phase("build"):
            model, x = nn.Sequential(nn.Linear(IN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT)), torch.randn(BATCH, IN)
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        for index in range(2):
            with running.recorder.step(index), torch.inference_mode(), running.recorder.phase("forward"):
                y = model(x)
            del y
    summary = summarize_ledger(running.ledger)
    # two of h at relu; the second layer has one h beside its y
    assert elements(summary.peak.by_category) == {
        Category.PARAMETERS: PARAMETERS,
        Category.INPUTS: BATCH * IN,
        Category.ACTIVATIONS: 2 * H,
    }
    assert (summary.peak.phase, summary.peak.module, summary.peak.operator) == ("forward", "1", "aten::relu")
    assert summary.activations.retained_bytes == 0
