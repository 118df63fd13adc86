"""Random programs: whatever a program does, the ledger equals the allocator's own total at every event."""

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helpers import assert_agrees, recording_of, walk_live
from vramscope.recorders.profiler import ProfilerRecorder

WIDTH = 4
STEPS = 18


class Failing(nn.Module):
    """Allocates, then raises when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.error: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        result = self.layer(x) * 2
        if self.error is not None:
            raise self.error("as planned")
        return result


class Net(nn.Module):
    """Modules for programs to call, each [rows, WIDTH] to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.choices = nn.ModuleList(
            [
                nn.Linear(WIDTH, WIDTH),
                nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True), nn.Dropout(0.5)),
                nn.Sequential(nn.LayerNorm(WIDTH), nn.GELU()),
            ]
        )
        self.failing = Failing()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, choice: int) -> Tensor:
        self.calls += 1
        if choice == len(self.choices):
            return self.failing(x)
        return self.choices[choice](x)


class Program:
    """A pool of tensors and a model; every instruction takes two small numbers and does something with them."""

    def __init__(self, recorder: ProfilerRecorder) -> None:
        self.recorder = recorder
        self.pool: list[Tensor] = []
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        recorder.watch(self.model)

    def pick(self, number: int) -> Tensor:
        """Some tensor of the pool; a new one where it is empty."""
        if not self.pool:
            self.pool.append(torch.randn(3, WIDTH))
        return self.pool[number % len(self.pool)]

    def keep(self, tensor: Tensor) -> None:
        """Add to the pool, which holds a few tensors only."""
        self.pool.append(tensor)
        del self.pool[:-5]

    def make(self, first: int, second: int) -> None:
        self.keep(torch.randn(first + 1, WIDTH, requires_grad=second % 2 == 0))

    def add(self, first: int, second: int) -> None:
        left, right = self.pick(first), self.pick(second)
        rows = min(len(left), len(right))
        self.keep(left[:rows] + right[:rows])

    def sort(self, first: int, second: int) -> None:
        self.keep(torch.sort(self.pick(first), dim=second % 2)[0])

    def unique(self, first: int, second: int) -> None:
        torch.unique(self.pick(first).round())

    def view(self, first: int, second: int) -> None:
        tensor = self.pick(first)
        self.keep(tensor[second % len(tensor) :])

    def copy(self, first: int, second: int) -> None:
        self.keep(self.pick(first).t().contiguous().t())

    def in_place(self, first: int, second: int) -> None:
        with torch.no_grad():
            self.pick(first).mul_(0.5).add_(second)

    def resize(self, first: int, second: int) -> None:
        """A storage that grows and shrinks in place."""
        scratch = torch.empty(first)
        scratch.resize_(first * 10 + 1)
        scratch.untyped_storage().resize_(second)

    def free(self, first: int, second: int) -> None:
        if self.pool:
            del self.pool[first % len(self.pool)]

    def cycle(self, first: int, second: int) -> None:
        """A tensor that only the garbage collector will find."""
        holder: list[Any] = [torch.randn(first + 1, WIDTH)]
        holder.append(holder)

    def collect(self, first: int, second: int) -> None:
        gc.collect()

    def call(self, first: int, second: int) -> None:
        self.keep(self.model(self.pick(first), second % 4))

    def call_without_gradients(self, first: int, second: int) -> None:
        with torch.no_grad():
            self.keep(self.model(self.pick(first), second % 4))

    def call_checkpointed(self, first: int, second: int) -> None:
        x = self.pick(first).detach().requires_grad_()
        self.keep(checkpoint(self.model, x, second % 3, use_reentrant=first % 2 == 0))

    def call_and_fail(self, first: int, second: int) -> None:
        self.model.failing.error = (ValueError, KeyboardInterrupt)[second % 2]
        try:
            self.keep(self.model(self.pick(first), 3))
        except (ValueError, KeyboardInterrupt):
            pass
        finally:
            self.model.failing.error = None

    def backward(self, first: int, second: int) -> None:
        tensor = self.pick(first)
        if tensor.requires_grad:
            # a graph that was used up, or a saved tensor changed in place, is the program's own failure: it goes on
            with contextlib.suppress(RuntimeError):
                tensor.sum().backward(retain_graph=second % 2 == 0, create_graph=second % 5 == 0)

    def step(self, first: int, second: int) -> None:
        self.optimizer.step()

    def clear(self, first: int, second: int) -> None:
        self.optimizer.zero_grad(set_to_none=second % 2 == 0)

    def set_gradient(self, first: int, second: int) -> None:
        parameter = self.model.failing.layer.bias
        parameter.grad = torch.full_like(parameter, float(second))

    def announced(self, first: int, second: int) -> None:
        """A forward pass that the program announces, possibly inside what was found."""
        with self.recorder.phase("forward"):
            self.call(first, second)

    def recorded_step(self, first: int, second: int) -> None:
        with self.recorder.step(first):
            self.call(first, second)
            self.backward(len(self.pool) - 1, 1)
            self.step(0, 0)


INSTRUCTIONS: tuple[Callable[[Program, int, int], None], ...] = tuple(
    item
    for name, item in vars(Program).items()
    if callable(item) and not name.startswith("_") and name not in ("pick", "keep")
)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from(INSTRUCTIONS), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=STEPS)
)
def test_the_ledger_equals_the_allocators_total_at_every_event(instructions):
    torch.manual_seed(0)
    with recording_of() as running:
        program = Program(running.recorder)
        for instruction, first, second in instructions:
            instruction(program, first, second)
        running.finish()
    ledger = running.ledger
    assert_agrees(ledger)
    # what is left at the end is what the program still holds, found by walking it
    live = walk_live(program.model, [program.optimizer])
    composition = ledger.composition(len(ledger) - 1)
    assert {category: composition[category] for category in live} == live
