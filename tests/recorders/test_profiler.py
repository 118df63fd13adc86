"""The profiler recorder: the phases it finds, what it labels, and what it does with other profilers."""

import copy
import gc
import io
import os
import sys
import threading
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import (
    FLOAT32,
    MarkKind,
    assert_agrees,
    describe_blocks,
    most_gradients,
    record_pass,
    recording_of,
    tensors_within,
    walk_live,
)
from vramscope.errors import RecordingError, UnsupportedError
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.labels import label_gradients, label_model, label_optimizer_state, label_tensor
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.watching import WatchedModels
from vramscope.recorders.window import _quiet_stderr
from vramscope.recording.recording import UNKNOWN

WEIGHT, BIAS = 6 * 5, 5


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 5)


def phases(ledger: Ledger) -> list[tuple[str, int]]:
    """(name, value) of every phase in the order in which they began."""
    return [(phase.name, phase.value) for phase in ledger.periods.phases]


def nothing_unattributed(ledger: Ledger) -> None:
    unattributed = ledger.is_category(Category.UNATTRIBUTED)
    assert not unattributed.any(), describe_blocks(ledger, unattributed)


class Fails(torch.optim.SGD):
    """An optimizer whose step raises."""

    def step(self, closure: Any = None) -> None:
        raise ValueError("as planned")


# -- phases that nobody announces -------------------------------------------------------------------------------------


def train_unannounced(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, recorder: Any = None) -> None:
    optimizer.zero_grad()
    loss = model(x).square().mean()  # made outside of every module, and still of the forward pass
    loss.backward()
    optimizer.step()


def test_the_phases_of_a_training_loop_are_found():
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.AdamW(model.parameters())
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        for _ in range(2):
            train_unannounced(model, optimizer, x)
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 0), ("optimizer", 0)] * 2
    nothing_unattributed(ledger)
    assert_agrees(ledger)


def test_without_gradients_a_forward_pass_ends_with_the_model():
    model, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        with torch.inference_mode():
            output = model(x)
            after = output + 1
        del output, after
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0)]
    last = ledger.periods.phases[0].last
    # what the program does with the output afterwards belongs to no forward pass: `after` and the 1 that + wraps
    later = ledger.blocks.birth >= last
    assert later.any()
    assert (ledger.is_category(Category.UNATTRIBUTED) | ledger.is_category(Category.WORKSPACE))[later].all()


@pytest.mark.parametrize("part", ["the model", "a module of it"])
def test_a_call_without_gradients_between_a_forward_and_its_loss_ends_nothing(part):
    model, x = nn.Sequential(linear(), nn.ReLU()), torch.randn(4, 6)
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        output = model(x)
        with torch.no_grad():
            (model if part == "the model" else model[0])(x)
        loss = (output * (output > 0).float()).mean()
        loss.backward()
        del output, loss
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 0)]
    nothing_unattributed(ledger)
    assert_agrees(ledger)


def test_a_forward_pass_whose_output_is_gone_does_not_last_into_inference():
    model, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        model(x)
        with torch.no_grad():
            for _ in range(2):
                kept = model(x)
                sampled = torch.zeros(100)
        del kept, sampled
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0)] * 3
    assert (ledger.is_category(Category.UNATTRIBUTED) & (ledger.blocks.size == 100 * FLOAT32)).sum() == 2


def test_a_module_that_is_called_by_itself_begins_no_forward_pass():
    model, x = nn.Sequential(linear(), nn.ReLU()), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        output = model[0](x)  # what comes after it need not be a loss
        batch = torch.zeros(100)
        doubled = batch * 2
        del output, batch, doubled
    ledger = running.ledger
    assert phases(ledger) == []
    after = ledger.is_category(Category.UNATTRIBUTED) & (ledger.blocks.size == 100 * FLOAT32)
    assert after.sum() == 2


def test_modules_that_a_container_holds_are_models():
    heads, x = (
        nn.ModuleDict({"encoder": nn.ModuleList([nn.Linear(6, 5)]), "decoder": nn.Linear(5, 6)}),
        torch.randn(4, 6),
    )
    with recording_of(seeds=chain(label_model(heads), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(heads)
        heads["decoder"](nn.functional.silu(heads["encoder"][0](x))).square().mean().backward()
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 0)]
    nothing_unattributed(ledger)
    assert_agrees(ledger)


def test_a_model_that_is_older_than_the_recording_can_be_watched_later():
    old, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        new = nn.Linear(5, 3)
        running.recorder.watch(new)
        running.recorder.watch(old)
        loss = new(old(x)).sum()
        loss.backward()
        del loss
    ledger = running.ledger
    # old: 6 * 5 + 5, new: 5 * 3 + 3
    assert ledger.initial_bytes() == 35 * FLOAT32
    assert ledger.composition(ledger.peak().event)[Category.PARAMETERS] == (35 + 18) * FLOAT32
    assert_agrees(ledger)


def test_an_older_model_is_there_though_its_place_is_given_out_again():
    sizes = range(96, 128)  # many, since where malloc puts something depends on what was there before
    old = nn.ModuleList(nn.Linear(size, size, bias=False) for size in sizes)
    places = {layer.weight.data_ptr() for layer in old}
    with recording_of() as running:
        running.recorder.watch(old)
        with running.recorder.phase("forward"):
            old[0](torch.zeros(1, 96))
        del old
        kept = [torch.zeros(size, size) for size in sizes]
        assert not places.isdisjoint(tensor.data_ptr() for tensor in kept)
    assert running.ledger.initial_bytes() == sum(size * size * FLOAT32 for size in sizes)
    del kept


def test_a_forward_that_the_model_itself_was_given_begins_a_pass():
    model = nn.Module()
    model.layer = linear()
    model.forward = lambda x: model.layer(x + torch.ones(4, 6)).sum()
    with recording_of() as running:
        running.recorder.watch(model)
        model(torch.zeros(4, 6)).backward()
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 0)]
    first = ledger.periods.phases[0]
    assert ledger.category_peak(Category.ACTIVATIONS, first).bytes >= 2 * 4 * 6 * FLOAT32


def test_a_scripted_model_is_labelled_as_any_other():
    model, x = torch.jit.script(nn.Sequential(linear(), nn.ReLU())), torch.randn(4, 6)
    optimizer = torch.optim.Adam(model.parameters())
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        for _ in range(2):
            train_unannounced(model, optimizer, x)
    ledger = running.ledger
    assert not running.recording.notes
    # two moments of each of the 6 * 5 + 5 parameters, and a counter of 4 bytes for each of the two tensors
    assert ledger.composition(len(ledger) - 1)[Category.OPTIMIZER_STATE] == 2 * (WEIGHT + BIAS) * FLOAT32 + 2 * 4
    nothing_unattributed(ledger)


def test_a_forward_pass_is_found_after_one_that_was_interrupted():
    class Interrupted(nn.Linear):
        def forward(self, x):
            raise KeyboardInterrupt

    model, x = nn.Sequential(linear(), Interrupted(5, 5)), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        with running.recorder.step(0), suppress(KeyboardInterrupt):
            model(x)
        model[1] = nn.ReLU()
        model(x).sum().backward()
    assert phases(running.ledger) == [("forward", 0), ("forward", 0), ("backward", 0)]


def test_the_cache_of_a_model_inside_another_is_named():
    class Cached(nn.Linear):
        def forward(self, x):
            keys = super().forward(x)
            return {"past_key_values": ((keys, keys + 1),)}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.kept = Cached(6, 5), []

        def forward(self, x):
            self.kept.append(self.inner(x)["past_key_values"])
            return x

    model = Outer()
    with recording_of() as running, torch.no_grad():
        running.recorder.watch(model.inner)
        running.recorder.watch(model)
        model(torch.randn(4, 6))
    marks = running.ledger.recording.marks
    assert (marks.kind == MarkKind.KV_CACHE).sum() == 2  # keys and values


def test_an_optimizer_that_calls_back_has_forward_and_backward_inside():
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        optimizer.step(closure)
    ledger = running.ledger
    assert phases(ledger)[:3] == [("optimizer", 0), ("forward", 0), ("backward", 0)]
    nothing_unattributed(ledger)
    # the loss is an activation, kept by a variable
    births = ledger.blocks.birth[ledger.is_category(Category.OPTIMIZER_TEMPORARIES)]
    assert {ledger.phase_at(int(birth)) for birth in births} == {"optimizer"}


def in_hooks(layers: int) -> tuple[Ledger, nn.Module]:
    """Two passes of a model whose parameters have optimizers of their own, which step as the gradients come."""
    model, x = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers))), torch.randn(4, 8)
    optimizers = {parameter: torch.optim.SGD([parameter], 0.1, momentum=0.9) for parameter in model.parameters()}

    def step_now(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    handles = [parameter.register_post_accumulate_grad_hook(step_now) for parameter in model.parameters()]
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        for index in range(2):
            with running.recorder.step(index):
                model(x).square().mean().backward()
    for handle in handles:  # or the optimizers would live on with the model, as no collector sees what torch holds
        handle.remove()
    return running.ledger, model


def test_optimizers_in_hooks_of_a_backward_pass_have_their_phases_inside_it():
    ledger, model = in_hooks(3)
    assert_agrees(ledger)
    nothing_unattributed(ledger)
    assert [name for name, _ in phases(ledger)] == ["forward", "backward", *["optimizer"] * 6] * 2
    kept = ledger.composition(len(ledger.recording.events) - 1)
    assert kept[Category.OPTIMIZER_STATE] == sum(parameter.nbytes for parameter in model.parameters())
    assert kept[Category.GRADIENTS] == 0
    # a layer's bias has its gradient, its state and goes, then its weight
    assert most_gradients(ledger) == [8 * 8 * FLOAT32 + 8 * FLOAT32] * 2


def test_many_optimizers_in_hooks_do_not_look_at_each_others_parameters(monkeypatch):
    looked: list[int] = []
    known = WatchedModels._known

    def counted(watched: WatchedModels, number: int) -> tuple[str, Tensor | None]:
        looked.append(number)
        return known(watched, number)

    monkeypatch.setattr(WatchedModels, "_known", counted)
    counts = []
    for layers in (10, 20):
        looked.clear()
        in_hooks(layers)
        counts.append(len(looked))
    assert counts[1] < 2.1 * counts[0]


def test_a_backward_pass_that_builds_a_graph_says_so():
    model, x = linear(), torch.randn(4, 6, requires_grad=True)
    with recording_of() as running:
        running.recorder.watch(model)
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
        del gradient
        x.grad = None
        model.zero_grad()
        gc.collect()
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 1), ("backward", 0)]
    assert not ledger.recomputed.any()


def test_an_announced_phase_ends_one_that_was_found():
    model, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        loss = model(x).sum()
        with running.recorder.phase("backward"):
            loss.backward()
        planted = torch.ones(77)
    ledger = running.ledger
    assert len(planted) == 77
    assert phases(ledger) == [("forward", 0), ("backward", 0)]
    assert ledger.composition(len(ledger) - 1)[Category.UNATTRIBUTED] == 77 * FLOAT32


def test_a_found_forward_ends_with_its_step():
    model, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        for index in range(3):
            with running.recorder.step(index):
                model(x).sum()  # with gradients, but nobody calls backward
            torch.ones(77)
    ledger = running.ledger
    assert [step.value for step in ledger.steps] == [0, 1, 2]
    assert [(phase.name, phase.step) for phase in ledger.periods.phases] == [
        ("forward", 0),
        ("forward", 1),
        ("forward", 2),
    ]
    bounds = [row for step in ledger.steps for row in (step.first, step.last)]
    assert bounds == sorted(bounds)
    sizes = ledger.blocks.size[ledger.is_category(Category.UNATTRIBUTED)].tolist()
    assert sizes.count(77 * FLOAT32) == 3


def test_announced_phases_are_not_found_again():
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recording_of() as running:
        running.recorder.watch(model)
        with running.recorder.phase("forward"):
            loss = model(x).sum()
        with running.recorder.phase("backward"):
            loss.backward()
        with running.recorder.phase("optimizer"):
            optimizer.step()
    assert phases(running.ledger) == [("forward", 0), ("backward", 0), ("optimizer", 0)]


def test_reentrant_checkpointing_runs_its_inner_backward_in_the_outer_one():
    model, x = nn.Sequential(linear(), nn.Tanh()), torch.randn(4, 6, requires_grad=True)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = model

        def forward(self, x: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=True, preserve_rng_state=False)

    whole = Whole()
    with recording_of() as running:
        running.recorder.watch(whole)
        whole(x).sum().backward()
    assert phases(running.ledger) == [("forward", 0), ("backward", 0)]
    assert running.ledger.recomputed.any()


class MakesItsStateAnew(torch.optim.Optimizer):
    """Momentum as people write it by hand: every step replaces it."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["momentum"] = 0.9 * state.get("momentum", torch.zeros(())) + parameter.grad
            parameter -= 0.1 * state["momentum"]


def test_state_that_a_step_makes_anew_ends_when_it_is_replaced():
    model, x = linear(), torch.randn(4, 6)
    optimizer = MakesItsStateAnew(model.parameters())
    train_unannounced(model, optimizer, x)
    seeds = chain(label_model(model), label_optimizer_state(optimizer, lambda _: ""))
    with recording_of(seeds=seeds) as running:
        running.recorder.watch(model)
        running.recorder.watch_optimizer(optimizer)
        train_unannounced(model, optimizer, x)
    ledger = running.ledger
    assert_agrees(ledger)
    # both momenta, and the new one of the weight until it takes the old one's place
    assert ledger.category_peak(Category.OPTIMIZER_STATE).bytes == (WEIGHT + BIAS + WEIGHT) * FLOAT32


def test_older_memory_that_goes_on_another_thread_is_noticed_when_the_phase_ends():
    older = [torch.ones(1000)]
    seeds = label_tensor(MarkKind.INPUT, "older", older[0])
    with recording_of(seeds=seeds) as running, running.recorder.phase("forward"):
        thread = threading.Thread(target=older.clear)
        thread.start()
        thread.join()
    assert running.recording.seeds.gone_ns[0] != UNKNOWN


# -- going on after an error ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["forward", "backward", "optimizer"])
def test_a_step_after_one_that_failed_is_recorded_as_any_other(where, error):
    class Breakable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()
            self.broken = False

        def forward(self, x: Tensor) -> Tensor:
            result = self.layer(x)
            if self.broken and where == "forward":
                raise error("as planned")
            if self.broken and where == "backward":
                result.register_hook(self.fail)
            return result

        def fail(self, gradient: Tensor) -> None:
            raise error("as planned")

    class Stopping(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            if where == "optimizer" and model.broken:
                raise error("as planned")
            super().step()

    model, x = Breakable(), torch.randn(4, 6)
    optimizer = Stopping(model.parameters(), lr=0.1)
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        for broken in (True, False):
            model.broken = broken
            with running.recorder.step(int(not broken)):
                try:
                    train_unannounced(model, optimizer, x)
                except (ValueError, KeyboardInterrupt):
                    gc.collect()
    ledger = running.ledger
    assert_agrees(ledger)
    second = ledger.steps[1]
    found = [phase.name for phase in ledger.periods.phases if phase.first >= second.first]
    assert found[-3:] == ["forward", "backward", "optimizer"] or where == "forward"
    unattributed = ledger.is_category(Category.UNATTRIBUTED) & (ledger.blocks.birth >= second.first)
    assert not unattributed.any(), describe_blocks(ledger, unattributed)
    (backward, *_) = ledger.periods.named("backward", [second])
    # both gradients, whatever happened before
    assert ledger.composition(backward.last - 1)[Category.GRADIENTS] == (WEIGHT + BIAS) * FLOAT32
    modules = {ledger.module_paths[m] for m in ledger.module[ledger.retained & (ledger.blocks.birth >= second.first)]}
    assert modules == {"layer", ""}


# -- labels -----------------------------------------------------------------------------------------------------------


def test_seeded_gradients_die_when_the_loop_drops_them():
    # The CPU's allocator reports no free for a block whose birth no profile saw.
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.AdamW(model.parameters())
    train_unannounced(model, optimizer, x)
    live = (
        label_model(model),
        label_gradients(model.named_parameters()),
        label_optimizer_state(optimizer, lambda _: ""),
        label_tensor(MarkKind.INPUT, "x", x),
    )
    with recording_of(seeds=chain(*live)) as running:
        running.recorder.watch(model)
        for _ in range(2):
            train_unannounced(model, optimizer, x)
    ledger = running.ledger
    weights = (WEIGHT + BIAS) * FLOAT32
    assert ledger.initial_bytes() == weights + weights + 2 * weights + 2 * FLOAT32 + 4 * 6 * FLOAT32
    for backward in ledger.periods.named("backward", ()):
        composition = ledger.composition(backward.last - 1)
        assert composition[Category.GRADIENTS] == weights
        assert composition[Category.OPTIMIZER_STATE] == 2 * weights + 2 * FLOAT32
    assert_agrees(ledger)


def test_seeds_are_not_kept_alive_by_the_recorder():
    tensor = torch.ones(1000)
    storage = tensor.untyped_storage()._weak_ref()
    with recording_of(seeds=label_tensor(MarkKind.INPUT, "x", tensor)):
        del tensor
        assert torch.UntypedStorage._expired(storage)
    torch.UntypedStorage._free_weak_ref(storage)


def test_gradients_and_states_that_a_program_sets_itself_are_labelled():
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recording_of(seeds=label_model(model)) as running:
        running.recorder.watch(model)
        model(x).sum().backward()
        for parameter in model.parameters():
            parameter.grad = parameter.grad.clone()  # as clipping out of place does
        optimizer.step()
        optimizer.zero_grad()  # at the end nothing is left to look at
    ledger = running.ledger
    (optimizer_phase,) = ledger.periods.named("optimizer", ())
    # just before the optimizer there are the copies alone
    assert ledger.composition(optimizer_phase.first - 1)[Category.GRADIENTS] == (WEIGHT + BIAS) * FLOAT32


def test_a_buffer_that_the_model_binds_anew_stays_a_buffer():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()
            self.register_buffer("history", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            self.history = self.history + 1
            return self.layer(x)

    with recording_of() as running:
        with running.recorder.phase("build"):
            model, x = Counts(), torch.randn(4, 6)
        running.recorder.watch(model)
        for index in range(2):
            with running.recorder.step(index):
                model(x).sum().backward()
    ledger = running.ledger
    for backward in ledger.periods.named("backward", ledger.steps):
        assert ledger.composition(backward.last - 1)[Category.BUFFERS] == 8 * FLOAT32


def test_a_parameter_that_takes_the_place_of_another_one_has_its_gradients_labelled():
    model, x = nn.Sequential(linear(), nn.Linear(5, 6)), torch.randn(4, 6)
    held: list[Tensor | None] = []

    def take_the_others(parameter: Tensor) -> None:
        held.append(model[1].weight.grad)
        model[1].weight.grad = None

    model[0].weight.register_post_accumulate_grad_hook(take_the_others)  # the first layer's gradients come last
    with recording_of(seeds=label_model(model)) as running:
        running.recorder.watch(model)
        for index in range(4):
            with running.recorder.step(index):
                model(x).sum().backward()
                model.zero_grad()
                held.clear()
                values = model[1].weight.data.clone()
                model[1].weight = None
                model[1].weight = nn.Parameter(values)  # with the id of the one before, which is gone
    assert len(set(most_gradients(running.ledger))) == 1


def test_a_tied_parameter_keeps_its_name_where_its_first_holder_gets_another_one():
    model, x = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)), torch.randn(4, 6)
    model[1].weight = model[0].weight
    with recording_of(seeds=label_model(model)) as running:
        running.recorder.watch(model)
        for index in range(3):
            with running.recorder.step(index):
                if index == 2:
                    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
                model(x).sum().backward()
                model.zero_grad()
    assert most_gradients(running.ledger)[2] == 2 * 6 * 6 * FLOAT32


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_models_parameters_are_parameters_once_they_are_there():
    with recording_of() as running:
        with running.recorder.phase("build"):
            model, x = nn.LazyLinear(5), torch.randn(4, 6)
        running.recorder.watch(model)
        model(x).sum().backward()
        live = walk_live(model, [])
        running.finish()
    composition = running.ledger.composition(len(running.ledger) - 1)
    weights = (WEIGHT + BIAS) * FLOAT32
    assert composition[Category.PARAMETERS] == live[Category.PARAMETERS] == weights
    assert composition[Category.GRADIENTS] == weights


def test_parameters_that_replace_others_are_parameters():
    with recording_of() as running:
        with running.recorder.phase("build"):
            model, x = linear(), torch.randn(4, 6)
        running.recorder.watch(model)
        model.double()  # the same Parameter objects over new storages
        model(x.double()).sum().backward()
        live = walk_live(model, [])
        running.finish()
    ledger = running.ledger
    composition = ledger.composition(len(ledger) - 1)
    assert composition[Category.PARAMETERS] == live[Category.PARAMETERS] == 2 * (WEIGHT + BIAS) * FLOAT32
    assert composition[Category.GRADIENTS] == live[Category.GRADIENTS]


def test_a_module_with_a_colon_and_a_blank_in_its_name():
    model = nn.ModuleDict({"a:b c": linear()})
    with recording_of() as running:
        running.recorder.watch(model)
        kept = model["a:b c"](torch.randn(4, 6))
    ledger = running.ledger
    assert len(kept) == 4
    owners = {ledger.module_paths[number] for number in ledger.module[ledger.is_category(Category.ACTIVATIONS)]}
    assert owners == {"a:b c"}


def test_two_models_side_by_side():
    generator, critic = linear(), nn.Linear(5, 1)
    x = torch.randn(4, 6)
    optimizers = [torch.optim.AdamW(generator.parameters()), torch.optim.AdamW(critic.parameters())]
    with recording_of(seeds=chain(label_model(generator), label_model(critic))) as running:
        running.recorder.watch(generator)
        running.recorder.watch(critic)
        for optimizer in optimizers:
            critic(generator(x)).sum().backward()
            optimizer.step()
        live = [walk_live(generator, optimizers[:1]), walk_live(critic, optimizers[1:])]
        running.finish()
    ledger = running.ledger
    assert_agrees(ledger)
    composition = ledger.composition(len(ledger) - 1)
    for category in live[0]:
        assert composition[category] == live[0][category] + live[1][category]


def test_a_model_dropped_inside_is_gone():
    with recording_of() as running:
        model = linear()
        running.recorder.watch(model)
        model(torch.randn(4, 6)).sum().backward()
        del model
        gc.collect()
        after = torch.ones(77)
    ledger = running.ledger
    assert_agrees(ledger)
    assert {c: size for c, size in ledger.composition(len(ledger) - 1).items() if size} == {
        Category.UNATTRIBUTED: len(after) * FLOAT32
    }


def test_models_that_come_and_go_keep_their_own_paths():
    # ids are given out again: the next model's modules must not go by the last one's paths
    with recording_of() as running:
        for width in range(1, 6):
            model = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(width, 50 + width)))
            running.recorder.watch(model)
            model(torch.randn(7, width))
            del model
            gc.collect()
    ledger = running.ledger
    for width in range(1, 6):
        (row,) = (row for row, size in enumerate(ledger.blocks.size) if size == 7 * (50 + width) * FLOAT32)
        assert ledger.module_paths[ledger.module[row]] == "1.0"


# -- programs that do unusual things ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_transforms_of_functions():
    model, x = nn.Sequential(linear(), nn.Tanh()), torch.randn(4, 6)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    def transform() -> list[Tensor]:
        return [
            *torch.func.grad(loss)(parameters, x).values(),
            *torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x).values(),
            torch.func.jacrev(model)(x[0]),
            torch.func.jacfwd(model)(x[0]),
            torch.autograd.functional.hessian(lambda x: model(x).sum(), x[0]),
        ]

    plain = transform()
    with recording_of() as running:
        running.recorder.watch(model)
        recorded = transform()
        running.finish()
    assert all(torch.equal(one, other) for one, other in zip(plain, recorded, strict=True))
    assert_agrees(running.ledger)


def test_copying_and_saving_a_watched_model():
    model, x = linear(), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        copied = copy.deepcopy(model)
        torch.save(model, io.BytesIO())
        copied(x).sum().backward()
        running.finish()
    assert_agrees(running.ledger)
    assert copied.weight.grad is not None
    assert model.weight.grad is None


def test_only_the_librarys_own_words_are_held_back(capfd):
    with _quiet_stderr():
        os.write(2, b"before\nUSDT:2026-11-29 08:10:13 1:1 ActivityProfilerController.cpp:408] started\n")
        os.write(2, b"ERROR:2026-11-29 08:10:13 1:1 DeviceProperties.cpp:50] gpuGetDeviceCount failed with code 35\n")
        os.write(2, b"ERROR: the program's own\n")
    assert capfd.readouterr().err == "before\nERROR: the program's own\n"


def test_a_process_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with recording_of() as running:
        kept = torch.ones(10)
        running.finish()
    assert running.ledger.peak().bytes == len(kept) * FLOAT32


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module.. when there are global hooks")
def test_compiling_inside_a_recording_breaks_no_graph(fresh_compiler):
    model, x = nn.Sequential(linear(), nn.Tanh()), torch.randn(4, 6)
    with recording_of() as running:
        running.recorder.watch(model)
        torch.compile(model, backend="eager")(x).sum().backward()
    assert dict(fresh_compiler["graph_break"]) == {}
    assert_agrees(running.ledger)


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module.. when there are global hooks")
def test_a_compiled_models_activations_are_activations(fresh_compiler):
    model, x = nn.Sequential(linear(), nn.Tanh()), torch.randn(4, 6)
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x).sum().backward()
    model.zero_grad()
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        with running.recorder.phase("forward"):
            y = compiled(x)
            loss = y.sum()
        loss.backward()
        del y, loss
    ledger = running.ledger
    assert_agrees(ledger)
    nothing_unattributed(ledger)
    # tanh saves its result, which y holds too; and the loss
    assert int(ledger.blocks.size[ledger.retained].sum()) == (4 * 5 + 1) * FLOAT32


@pytest.mark.filterwarnings("ignore:Using .torch.compile.module.. when there are global hooks")
def test_a_backward_pass_between_two_compiled_pieces_is_not_compiled(fresh_compiler):
    model, x = nn.Sequential(linear(), nn.Tanh()), torch.randn(4, 6)

    @torch.compile(backend="eager")
    def step():
        loss = model(x).sum()
        loss.backward()
        return 2 * loss

    step()
    model.zero_grad()
    before = {name: dict(fresh_compiler[name]) for name in ("stats", "graph_break")}
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        step()
    assert {name: dict(fresh_compiler[name]) for name in ("stats", "graph_break")} == before
    ledger = running.ledger
    assert_agrees(ledger)
    gradients = ledger.blocks.size[ledger.is_category(Category.GRADIENTS)]
    assert gradients.sum() == sum(parameter.nbytes for parameter in model.parameters())


class SeesOperators(TorchDispatchMode):
    """A mode of the program's own that notes what runs below it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(operator))
        return operator(*args, **(kwargs or {}))


class SeesCalls(TorchFunctionMode):
    """Likewise of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


def test_modes_of_the_program_do_not_see_that_a_recording_begins_and_ends():
    with SeesOperators() as operators, SeesCalls() as calls, recording_of():
        pass
    assert operators.seen == []
    assert "empty" not in calls.seen


def test_a_recording_may_end_while_every_new_tensor_is_a_fake():
    with recording_of() as running, FakeTensorMode():
        nn.Linear(6, 5)(torch.ones(4, 6))
        running.finish()
    assert_agrees(running.ledger)


# -- threads ----------------------------------------------------------------------------------------------------------


def in_a_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_model_that_runs_on_another_thread_does_not_disturb_this_one():
    model, x = linear(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recording_of(seeds=chain(label_model(model), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(model)
        in_a_thread(lambda: model(x))  # threads are not recorded
        train_unannounced(model, optimizer, x)
    ledger = running.ledger
    assert phases(ledger) == [("forward", 0), ("backward", 0), ("optimizer", 0)]
    nothing_unattributed(ledger)


# -- other profilers, other recordings --------------------------------------------------------------------------------


def test_a_profiler_that_is_already_running_is_an_error_before_anything_happens():
    recorder = ProfilerRecorder()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        with pytest.raises(UnsupportedError, match="do not nest"):
            recorder.start()
        assert torch._C._autograd._profiler_enabled()  # the other one goes on
    assert not torch._C._autograd._profiler_enabled()


def test_a_second_recorder_is_refused_and_the_first_goes_on():
    model = linear()
    with recording_of() as running:
        running.recorder.watch(model)
        with pytest.raises(UnsupportedError):
            ProfilerRecorder().start()
        model(torch.randn(4, 6)).sum().backward()
    assert phases(running.ledger) == [("forward", 0), ("backward", 0)]


@pytest.mark.parametrize("left_open", [False, True])
def test_a_foreign_profiler_inside_is_a_clear_error(left_open):
    recorder = ProfilerRecorder()
    recorder.start()
    foreign = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    foreign.start()
    torch.ones(10)
    if not left_open:
        foreign.stop()
    with pytest.raises(RecordingError, match=r"another torch\.profiler was started inside this profile"):
        recorder.finish()
    if left_open:
        with suppress(RuntimeError):  # our end was its end, which torch 2.11 says and later versions do not
            foreign.stop()
    assert not torch._C._autograd._profiler_enabled()


def test_after_a_foreign_profiler_a_new_recording_is_fine():
    recorder = ProfilerRecorder()
    recorder.start()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        torch.ones(10)
    with pytest.raises(RecordingError):
        recorder.finish()
    with recording_of() as running:
        kept = torch.ones(10)
    assert len(kept) == 10
    assert running.ledger.peak().bytes == 10 * FLOAT32


def test_two_recordings_one_after_the_other_are_both_exact():
    with recording_of() as first:
        carried = torch.ones(1000)
    with recording_of() as second:
        del carried  # seen by the first recording: its free is reported to the second
        kept = torch.ones(30)
    assert len(kept) == 30
    assert first.ledger.peak().bytes == 1000 * FLOAT32
    assert second.recording.devices[0].start_total - first.recording.devices[0].start_total == 1000 * FLOAT32
    ledger = second.ledger
    # alive at the beginning, then freed, then 30
    assert ledger.initial_bytes() == 1000 * FLOAT32
    assert ledger.allocator_totals().tolist() == [0, 30 * FLOAT32]
    assert_agrees(first.ledger)
    assert_agrees(ledger)


def test_two_passes_one_after_the_other_are_the_same_to_the_byte():
    first, second = (record_pass("mlp", "training", batch=2, steps=1) for _ in range(2))
    assert first.recording.events.size.tolist() == second.recording.events.size.tolist()
    assert first.peak().bytes == second.peak().bytes
    assert first.composition(first.peak().event) == second.composition(second.peak().event)


def test_an_empty_recording():
    with recording_of() as running:
        pass
    assert len(running.recording.events) == 0
    assert running.ledger.peak().bytes == 0
    assert_agrees(running.ledger)


def test_what_a_recording_says_of_its_modules():
    model = nn.Sequential(linear(), nn.ReLU())
    with recording_of() as running:
        running.recorder.watch(model)
    assert running.recording.workload["modules"] == [["", "Sequential"], ["0", "Linear"], ["1", "ReLU"]]


def test_a_nest_of_inputs_is_marked_and_no_further():
    with recording_of() as running:
        inputs = {"ids": torch.ones(3), "more": [torch.ones(5), (torch.ones(7), "text")]}
        other = torch.ones(11)
        running.recorder.mark_inputs(inputs)
    ledger = running.ledger
    composition = ledger.composition(len(ledger) - 1)
    assert composition[Category.INPUTS] == (3 + 5 + 7) * FLOAT32
    assert composition[Category.UNATTRIBUTED] == len(other) * FLOAT32
    names = {ledger.recording.strings[name] for name in ledger.recording.marks.name}
    assert names == {"ids", "more.0", "more.1.0"}
    assert len(list(tensors_within(inputs))) == 3


# -- what it leaves behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [64, 300, 512, 4096])
def test_a_gradient_that_comes_back_to_its_address_is_one_again(elements: int):
    model = nn.Linear(elements, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with recording_of(seeds=label_model(model)) as running:
        running.recorder.watch(model)
        model(torch.ones(1, elements)).sum().backward()
        gradient = model.weight.grad
        half = gradient.data.bfloat16()
        gradient.data = half  # frees the block, which the next line may get again
        gradient.data = half.float()
        del half
        optimizer.step()
    (phase,) = running.ledger.periods.named("optimizer", ())
    assert running.ledger.composition(phase.first - 1)[Category.GRADIENTS] == elements * FLOAT32


def test_what_was_recorded_is_not_kept_by_the_recorder():
    recorder = ProfilerRecorder()
    recorder.start()
    for _ in range(100):
        torch.ones(10)
    recorder.finish()
    assert recorder._window.take_roots() == []
