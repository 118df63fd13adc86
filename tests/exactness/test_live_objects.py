"""The ledger against the live objects: at the boundaries of a step both have the same bytes."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from helpers import FLOAT32, recording_of, walk_live
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.recording import PhaseName

Walks = dict[str, dict[Category, int]]
BOUNDARIES = ("before forward", "before backward", "after backward", "after the step")
WEIGHTS = 6 * 5 + 5 + 5 + 5 + 5 * 3 + 3  # the model's parameter elements, see Net


class Net(nn.Module):
    """Linear(6, 5) with a tied user, BatchNorm1d(5) with its buffers, Linear(5, 3): 63 parameters in 6 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)
        self.again = nn.Module()
        self.again.weight = self.first.weight  # tied: one storage, two paths
        self.register_buffer("view", self.norm.running_mean[1:])  # a view: no storage of its own

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.first(x))
        return self.last(torch.relu(hidden @ self.again.weight @ self.again.weight.T))


class Steps:
    """Steps of a model under a recorder that note, at each boundary, what the live objects hold."""

    def __init__(self, recorder: ProfilerRecorder, model: nn.Module, optimizers: list[Optimizer]) -> None:
        self.recorder, self.model, self.optimizers = recorder, model, optimizers
        self.walks: list[Walks] = []

    def note(self, boundary: str) -> None:
        if boundary == BOUNDARIES[0]:
            self.walks.append({})
        self.walks[-1].setdefault(boundary, walk_live(self.model, self.optimizers))

    def forward_and_backward(self, x: Tensor) -> Tensor:
        with self.recorder.phase(PhaseName.FORWARD):
            loss = self.model(x).square().mean()
        self.note("before backward")
        with self.recorder.phase(PhaseName.BACKWARD):
            loss.backward()
        self.note("after backward")
        return loss

    def plain(self, x: Tensor) -> None:
        """One step: gradients cleared, forward, backward, every optimizer."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.note("before forward")
        self.forward_and_backward(x)
        with self.recorder.phase(PhaseName.OPTIMIZER):
            for optimizer in self.optimizers:
                optimizer.step()
        self.note("after the step")

    def with_closure(self, x: Tensor) -> None:
        """One step of an optimizer that calls back; the boundaries are those of its first call."""
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        self.note("before forward")

        def closure() -> Tensor:
            optimizer.zero_grad()
            return self.forward_and_backward(x)

        with self.recorder.phase(PhaseName.OPTIMIZER):
            optimizer.step(closure)
        self.note("after the step")


def boundary_events(ledger: Ledger, step: int) -> dict[str, int]:
    """The last event before each boundary of a step."""
    (forward, *_), (backward, *_), (optimizer, *_) = (
        ledger.periods.named(name, [ledger.steps[step]]) for name in ("forward", "backward", "optimizer")
    )
    return dict(
        zip(BOUNDARIES, (forward.first - 1, backward.first - 1, backward.last - 1, optimizer.last - 1), strict=True)
    )


def compare(ledger: Ledger, walks: list[Walks]) -> None:
    """At every boundary of every step the four categories are those of the live objects."""
    for step, walk in enumerate(walks):
        for boundary, event in boundary_events(ledger, step).items():
            composition = ledger.composition(event)
            found = {category: composition[category] for category in walk[boundary]}
            assert found == walk[boundary], f"step {step}, {boundary}"
    assert ledger.max_disagreement_bytes() == 0


def run(
    make: Callable[[Iterable[nn.Parameter]], Optimizer], closure: bool = False, build: Callable[[], nn.Module] = Net
) -> tuple[Ledger, list[Walks]]:
    """Three steps of a model with one optimizer, from before it is built."""
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = build(), torch.randn(4, 6)
            steps = Steps(running.recorder, model, [make(model.parameters())])
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        for index in range(3):
            with running.recorder.step(index):
                (steps.with_closure if closure else steps.plain)(x)
        del model, x
        walks = steps.walks
        running.finish()
    return running.ledger, walks


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adamw one by one": lambda p: torch.optim.AdamW(p, foreach=False),
    "adamw fused": lambda p: torch.optim.AdamW(p, fused=True),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, amsgrad=True),
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "asgd": torch.optim.ASGD,
    "rmsprop": torch.optim.RMSprop,
    "rmsprop centered with momentum": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9),
    "rprop": torch.optim.Rprop,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_boundary_of_every_step(name):
    compare(*run(OPTIMIZERS[name]))


def test_an_optimizer_that_calls_back():
    compare(*run(lambda p: torch.optim.LBFGS(p, max_iter=3, history_size=2), closure=True))


@pytest.mark.parametrize(
    ("name", "copies", "scalars"),
    [
        ("sgd", 0, 0),
        ("sgd with momentum", 1, 0),
        ("adagrad", 1, 6),  # sum; a step counter for each of the 6 tensors
        ("rmsprop", 1, 6),
        ("adamw", 2, 6),  # exp_avg, exp_avg_sq
        ("adamw amsgrad", 3, 6),  # and max_exp_avg_sq
        ("nadam", 2, 12),  # and mu_product, a scalar as well
        ("rmsprop centered with momentum", 3, 6),  # square_avg, grad_avg, momentum_buffer
    ],
)
def test_what_each_optimizer_keeps(name, copies, scalars):
    ledger, _ = run(OPTIMIZERS[name])
    last = ledger.composition(ledger.steps[-1].last - 1)
    assert last[Category.PARAMETERS] == WEIGHTS * FLOAT32
    assert last[Category.OPTIMIZER_STATE] == copies * WEIGHTS * FLOAT32 + scalars * FLOAT32


def test_what_adafactor_keeps():
    ledger, _ = run(torch.optim.Adafactor)
    last = ledger.composition(ledger.steps[-1].last - 1)
    # Linear(6, 5) and Linear(5, 3) have matrices [5, 6] and [3, 5]: one value per row and one per column; the four
    # vectors (5, 5, 5, 3) a whole variance; a step counter for each of the 6 tensors
    assert last[Category.OPTIMIZER_STATE] == (5 + 6 + 3 + 5 + 5 + 5 + 5 + 3 + 6) * FLOAT32


def test_adagrads_state_is_there_before_the_first_step():
    ledger, _ = run(torch.optim.Adagrad)
    first = boundary_events(ledger, 0)["before forward"]
    assert ledger.composition(first)[Category.OPTIMIZER_STATE] == (WEIGHTS + 6) * FLOAT32


def test_two_optimizers_over_one_model():
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Net(), torch.randn(4, 6)
            body = [*model.first.parameters(), *model.norm.parameters()]
            optimizers = [torch.optim.AdamW(body), torch.optim.SGD(model.last.parameters(), lr=0.1, momentum=0.9)]
            steps = Steps(running.recorder, model, optimizers)
        running.recorder.watch(model)
        for index in range(3):
            with running.recorder.step(index):
                steps.plain(x)
        walks = steps.walks
        running.finish()
    compare(running.ledger, walks)
    last = running.ledger.composition(running.ledger.steps[-1].last - 1)
    # AdamW: 35 + 10 elements in 4 tensors; SGD with momentum: 18 elements
    assert last[Category.OPTIMIZER_STATE] == (2 * 45 + 4 + 18) * FLOAT32


def test_gradients_that_live_in_one_flat_buffer():
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Net(), torch.randn(4, 6)
            flat, start = torch.zeros(WEIGHTS), 0
            for parameter in model.parameters():
                parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()
            steps = Steps(running.recorder, model, [torch.optim.SGD(model.parameters(), lr=0.1)])
        running.recorder.watch(model)
        for index in range(2):
            with running.recorder.step(index):
                steps.note("before forward")
                steps.forward_and_backward(x)
                with running.recorder.phase(PhaseName.OPTIMIZER):
                    steps.optimizers[0].step()
                steps.note("after the step")
        walks = steps.walks
        running.finish()
    assert start == WEIGHTS
    compare(running.ledger, walks)
    assert walks[0]["after backward"][Category.GRADIENTS] == WEIGHTS * FLOAT32


def test_gradients_that_accumulate_over_micro_batches():
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Net(), torch.randn(4, 6)
            steps = Steps(running.recorder, model, [torch.optim.SGD(model.parameters(), lr=0.1)])
        running.recorder.watch(model)
        for index in range(4):  # no clearing between them
            with running.recorder.step(index):
                steps.note("before forward")
                steps.forward_and_backward(x)
                with running.recorder.phase(PhaseName.OPTIMIZER):
                    steps.optimizers[0].step()
                steps.note("after the step")
        walks = steps.walks
        running.finish()
    ledger = running.ledger
    compare(ledger, walks)
    assert walks[3]["before forward"][Category.GRADIENTS] == WEIGHTS * FLOAT32
    # what is added into a gradient counts as one too, for as long as it lives: never more than all of them once again
    assert ledger.category_peak(Category.GRADIENTS).bytes <= 2 * WEIGHTS * FLOAT32


def test_parameters_that_are_views_of_one_flat_buffer():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            flat = torch.randn(6 * 5 + 5)
            self.weight = nn.Parameter(flat[:30].view(5, 6))
            self.bias = nn.Parameter(flat[30:])

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight, self.bias)

    ledger, walks = run(torch.optim.AdamW, build=Flat)
    compare(ledger, walks)
    assert walks[0]["before forward"][Category.PARAMETERS] == 35 * FLOAT32


def test_sparse_gradients():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 3, sparse=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.table(x.argmax(dim=1))

    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Words(), torch.randn(4, 6)
            optimizer = torch.optim.SparseAdam(model.parameters())
        running.recorder.watch(model)
        with running.recorder.phase(PhaseName.FORWARD):
            loss = model(x).sum()
        with running.recorder.phase(PhaseName.BACKWARD):
            loss.backward()
        gradient = model.table.weight.grad
        assert gradient is not None
        held = gradient._indices().untyped_storage().nbytes() + gradient._values().untyped_storage().nbytes()
        del gradient
        with running.recorder.phase(PhaseName.OPTIMIZER):
            optimizer.step()
    ledger = running.ledger
    (backward,) = ledger.periods.named("backward", ())
    (optimizer_phase,) = ledger.periods.named("optimizer", ())
    # 4 indices of int64 and 4 rows of 3 floats
    assert held == 4 * 8 + 4 * 3 * FLOAT32
    assert ledger.composition(backward.last - 1)[Category.GRADIENTS] == held
    # exp_avg and exp_avg_sq, dense, of 7 * 3; its step is a Python number
    assert ledger.composition(optimizer_phase.last - 1)[Category.OPTIMIZER_STATE] == 2 * 7 * 3 * FLOAT32


def test_a_planted_tensor_is_unattributed_with_its_exact_bytes():
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Net(), torch.randn(4, 6)
            steps = Steps(running.recorder, model, [torch.optim.AdamW(model.parameters())])
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        planted = []
        for index in range(3):
            with running.recorder.step(index):
                steps.plain(x)
            planted.append(torch.empty(1000 + index, dtype=torch.uint8))  # between the steps
        running.finish()
    ledger = running.ledger
    compare(ledger, steps.walks)
    levels = [ledger.composition(step.last - 1)[Category.UNATTRIBUTED] for step in ledger.steps]
    assert levels == [0, 1000, 1000 + 1001]
    assert ledger.composition(len(ledger) - 1)[Category.UNATTRIBUTED] == 1000 + 1001 + 1002


def test_a_tensor_planted_inside_a_step_but_outside_its_phases_is_unattributed():
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase(PhaseName.BUILD):
            model, x = Net(), torch.randn(4, 6)
            steps = Steps(running.recorder, model, [torch.optim.AdamW(model.parameters())])
        running.recorder.watch(model)
        running.recorder.mark_inputs(x)
        with running.recorder.step(0):
            steps.plain(x)
            planted = [torch.full((77,), 1.0), x + 1]
        running.finish()
    ledger = running.ledger
    assert len(planted) == 2
    assert ledger.composition(ledger.steps[0].last - 1)[Category.UNATTRIBUTED] == 77 * FLOAT32 + 4 * 6 * FLOAT32
