"""Profiling changes nothing: results are the same to the bit, memory to the byte, and afterwards nothing is left."""

import gc
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.nn.modules import module as module_hooks
from torch.optim import Optimizer
from torch.optim import optimizer as optimizer_hooks
from torch.profiler import ProfilerActivity

from helpers import recording_of
from vramscope.errors import WorkloadError
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

ENGINE = torch.autograd._engine_run_backward
ERRORS = (ValueError, KeyboardInterrupt)
PLACES = ("forward", "backward", "optimizer")


class Net(nn.Module):
    """Dropout draws random numbers, batch normalization has state, checkpointing recomputes, one weight is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.BatchNorm1d(3), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.3))
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = self.body[0].weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x.unsqueeze(1))
        hidden = torch.utils.checkpoint.checkpoint(self.body, hidden, use_reentrant=False)
        return self.again(hidden).mean(dim=1)


@dataclass(frozen=True)
class Outcome:
    """Everything a training run leaves behind."""

    losses: list[Tensor]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    states: list[Tensor]
    random_state: Tensor
    modes: list[bool]


def train(make: Callable[..., Optimizer], watch: Callable[[nn.Module], None] = lambda _: None) -> Outcome:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(5, 6)
    optimizer = make(model.parameters())
    watch(model)
    losses = []
    for _ in range(3):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).detach().clone())
    return Outcome(
        losses,
        {name: parameter.grad.clone() for name, parameter in model.named_parameters()},
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [value.clone() for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)],
        torch.get_rng_state(),
        [module.training for module in model.modules()],
    )


def assert_same(first: Outcome, second: Outcome) -> None:
    assert all(torch.equal(one, other) for one, other in zip(first.losses, second.losses, strict=True))
    for tensors in ("gradients", "weights"):
        left, right = getattr(first, tensors), getattr(second, tensors)
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert all(torch.equal(one, other) for one, other in zip(first.states, second.states, strict=True))
    assert torch.equal(first.random_state, second.random_state)
    assert first.modes == second.modes


@pytest.mark.parametrize("lines", [False, True], ids=["plain", "lines"])
@pytest.mark.parametrize(
    "make",
    [
        torch.optim.AdamW,
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.LBFGS(p, max_iter=3),
    ],
    ids=["adamw", "sgd", "lbfgs"],
)
def test_losses_gradients_and_weights_are_the_same_to_the_bit(make, lines):
    plain = train(make)
    with recording_of(lines=lines) as running:
        profiled = train(make, running.recorder.watch)
    assert len(running.recording.events) > 100
    assert_same(plain, profiled)


def allocator_sizes(profile: Any) -> list[int]:
    """The signed sizes of a bare profile's allocator events, in order."""
    found, pending = [], list(profile.profiler.kineto_results.experimental_event_tree())
    while pending:
        node = pending.pop()
        pending.extend(node.children)
        if node.tag == _EventType.Allocation:
            found.append((node.start_time_ns, node.extra_fields.alloc_size))
    return [size for _, size in sorted(found, key=lambda row: row[0])]


@pytest.mark.parametrize("make", [torch.optim.AdamW, lambda p: torch.optim.SGD(p, lr=0.1)], ids=["adamw", "sgd"])
def test_hooks_change_no_allocation(make):
    """A hook on a gradient, say, could keep the engine from handing its buffer over, and make it copy."""
    train(make)  # kernels are chosen and loaded
    gc.collect()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as bare:
        train(make)
        gc.collect()
    with recording_of() as running:
        train(make, running.recorder.watch)
        gc.collect()
    assert running.recording.events.size.tolist() == allocator_sizes(bare)
    assert running.ledger.max_disagreement_bytes() == 0


# -- nothing is left --------------------------------------------------------------------------------------------------


def assert_nothing_is_left() -> None:
    """No hook anywhere in torch, no profiler, no tracer."""
    for name in (
        "_global_forward_hooks",
        "_global_forward_pre_hooks",
        "_global_backward_hooks",
        "_global_backward_pre_hooks",
        "_global_forward_hooks_always_called",
        "_global_forward_hooks_with_kwargs",
    ):
        assert not getattr(module_hooks, name), name
    assert not optimizer_hooks._global_optimizer_pre_hooks
    assert not optimizer_hooks._global_optimizer_post_hooks
    assert torch.autograd._engine_run_backward is ENGINE
    assert not torch._C._autograd._profiler_enabled()
    assert sys.gettrace() is None or "vramscope" not in repr(sys.gettrace())


def assert_no_hook_on(model: nn.Module) -> None:
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    for parameter in model.parameters():
        assert not parameter._post_accumulate_grad_hooks
        assert not parameter._backward_hooks


class Breaking(nn.Module):
    """Raises where and what it is told to, the first time around or later."""

    def __init__(self, where: str, error: type[BaseException], good_steps: int) -> None:
        super().__init__()
        self.where, self.error, self.good_steps = where, error, good_steps
        self.layer = nn.Sequential(nn.Linear(6, 6), Stop(self))

    def fail(self, where: str) -> None:
        if where == self.where and self.good_steps <= 0:
            raise self.error("as planned")

    def forward(self, x: Tensor) -> Tensor:
        result = self.layer(x)
        self.good_steps -= 1
        return result


class Stop(nn.Module):
    """Inside Breaking, and two modules deep."""

    def __init__(self, owner: Breaking) -> None:
        super().__init__()
        self.owner = [owner]  # a list: not a submodule

    def forward(self, x: Tensor) -> Tensor:
        self.owner[0].fail("forward")
        result = x * 2
        if result.requires_grad:
            result.register_hook(lambda gradient: self.owner[0].fail("backward"))
        return result


class BreakingOptimizer(torch.optim.SGD):
    """Raises in its step when its model says so."""

    model: Breaking

    def step(self, closure: Any = None) -> None:
        self.model.fail("optimizer")
        super().step(closure)


def run_breaking(recorder: ProfilerRecorder, where: str, error: type[BaseException]) -> list[weakref.ref[Any]]:
    """Two steps of which the second one fails; gives weak references to everything there was."""
    recorder.start()
    try:
        model, x = Breaking(where, error, good_steps=1), torch.randn(4, 6)
        optimizer = BreakingOptimizer(model.parameters(), lr=0.1)
        optimizer.model = model
        references = [weakref.ref(item) for item in (model, x, optimizer, *model.parameters(), *model.modules())]
        recorder.watch(model)
        recorder.mark_inputs(x)
        try:
            for index in range(2):
                with recorder.step(index):
                    loss = model(x).sum()
                    loss.backward()
                    optimizer.step()
            assert where == "nowhere"
            recorder.finish()
        except ERRORS:
            recorder.abandon()
        assert_nothing_is_left()
        assert_no_hook_on(model)
        return references
    finally:
        recorder.abandon()


@pytest.mark.parametrize("lines", [False, True], ids=["plain", "lines"])
@pytest.mark.parametrize(("where", "error"), [("nowhere", ValueError), *((p, e) for p in PLACES for e in ERRORS)])
def test_nothing_is_left_after_success_or_any_error(where, error, lines):
    recorder = ProfilerRecorder(lines=lines)
    references = run_breaking(recorder, where, error)
    gc.collect()
    # the recorder itself is still there and holds none of them
    assert [reference() for reference in references if reference() is not None] == []
    assert_nothing_is_left()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", PLACES)
def test_what_was_recorded_until_an_error_can_be_kept(where, error):
    recorder = ProfilerRecorder()
    recorder.start()
    model = Breaking(where, error, good_steps=0)
    recorder.watch(model)
    try:
        model(torch.randn(4, 6)).sum().backward()
        optimizer = BreakingOptimizer(model.parameters(), lr=0.1)
        optimizer.model = model
        optimizer.step()
    except ERRORS:
        pass
    recording = recorder.finish()
    assert len(recording.events) > 0
    assert_nothing_is_left()
    assert_no_hook_on(model)


def test_abandoning_keeps_nothing_and_may_happen_at_any_time():
    recorder = ProfilerRecorder()
    recorder.abandon()
    recorder.start()
    recorder.watch(nn.Linear(2, 2))
    recorder.abandon()
    recorder.abandon()
    assert_nothing_is_left()


def test_hooks_that_were_there_before_stay():
    calls: list[str] = []
    handles = [
        module_hooks.register_module_forward_pre_hook(lambda module, args: calls.append("before")),
        module_hooks.register_module_forward_hook(lambda module, args, output: calls.append("after")),
    ]
    model = nn.Linear(2, 2)
    handles.append(model.weight.register_post_accumulate_grad_hook(lambda parameter: calls.append("gradient")))
    try:
        with recording_of() as running:
            running.recorder.watch(model)
            model(torch.ones(1, 2)).sum().backward()
        model(torch.ones(1, 2)).sum().backward()
        assert calls == ["before", "after", "gradient"] * 2
    finally:
        for handle in handles:
            handle.remove()


def test_somebody_elses_wrapper_of_the_engine_stays():
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    with recording_of():
        inner = torch.autograd._engine_run_backward
        torch.autograd._engine_run_backward = wrapper
    try:
        assert torch.autograd._engine_run_backward is wrapper
        weight = torch.ones(2, requires_grad=True)
        weight.sum().backward()  # our own wrapper is still underneath, and does nothing any more
        assert torch.equal(weight.grad, torch.ones(2))
    finally:
        torch.autograd._engine_run_backward = ENGINE


# -- through run_pass, as `compare` does ------------------------------------------------------------------------------

FACTORY = """
import torch
from torch import nn
from vramscope.workloads.workload import Workload

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 1 and {place!r} == "forward":
            raise {error}("as planned")
        result = self.layer(x)
        if self.calls > 1 and {place!r} == "backward":
            result.register_hook(self.fail)
        return result
    def fail(self, gradient):
        raise {error}("as planned")

class Optimizer(torch.optim.SGD):
    def step(self, closure=None):
        if {place!r} == "optimizer":
            raise {error}("as planned")
        super().step(closure)

def build():
    if {place!r} == "build":
        raise {error}("as planned")
    return Workload(Net(), torch.randn(4, 6), optimizer=lambda model: Optimizer(model.parameters(), lr=0.1))
"""


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", [*PLACES, "build"])
def test_a_pass_that_fails_leaves_nothing(tmp_path: Path, place: str, error: type[BaseException]):
    path = tmp_path / f"{place}_{error.__name__.lower()}.py"
    path.write_text(FACTORY.format(place=place, error=error.__name__), encoding="utf-8")
    recorder = ProfilerRecorder()
    expected = KeyboardInterrupt if error is KeyboardInterrupt else Exception
    with pytest.raises(expected) as raised:
        run_pass(resolve(f"{path}:build"), WorkloadOptions(), PassName.TRAINING, recorder, lambda _: None)
    if error is ValueError and place != "build":
        assert isinstance(raised.value, WorkloadError)
    assert "as planned" in str(raised.value)
    assert_nothing_is_left()
    del raised
    gc.collect()
    kinds = {
        type(item).__name__ for item in gc.get_objects() if type(item).__module__ == f"_vramscope_target_{path.stem}"
    }
    assert kinds == set()
