"""A pass in figures: what every view shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import MarkKind, Script, recording_of
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import PassSummary, steady_window, summarize, summarize_ledger
from vramscope.recording.collection import RUN
from vramscope.recording.recording import UNKNOWN, ScopeKind


def canonical(steps: int = 3) -> Script:
    """A model of two modules: a (weight 100 bytes) and b (weight 40 bytes, no bias), its inputs 16 bytes.

    Each step keeps 30 bytes of a and 12 of b for backward, passes 8 bytes of a along, and makes both gradients. The
    cold step makes momentum for both, with a step counter of 4 bytes for a.
    """
    script = Script()
    script.modules = [["", "Net"], ["a", "Linear"], ["b", "Linear"], ["c", "ReLU"]]
    with script.phase("build"):
        script.alloc(0xA0, 100)
        script.alloc(0xB0, 40)
        script.alloc(0xC0, 16)
    script.mark(MarkKind.PARAMETER, "a.weight", 0xA0)
    script.mark(MarkKind.PARAMETER, "b.weight", 0xB0)
    script.mark(MarkKind.INPUT, "x", 0xC0)
    for index in range(steps):
        with script.step(index):
            _one_step(script, index)
    return script


def _one_step(script: Script, index: int) -> None:
    sequence = 2 * index
    with script.phase("forward"), script.module(""):
        with script.module("a"):
            with script.operator("aten::addmm", sequence):
                script.alloc(0x1000, 30)
            with script.operator("aten::relu", sequence):
                script.alloc(0x1100, 8)
        with script.module("b"), script.operator("aten::mm", sequence + 1):
            script.alloc(0x1200, 12)
        script.free(0x1100, 8)
    with script.phase("backward"):
        with script.node("MmBackward0", sequence + 1), script.operator("aten::mm"):
            script.alloc(0x2000, 40)
        with script.node("AccumulateGrad"):
            script.mark(MarkKind.GRADIENT, "b.weight", 0x2000, owner="b.weight")
        with script.node("AddmmBackward0", sequence), script.operator("aten::mm"):
            script.alloc(0x2100, 100)
        with script.node("AccumulateGrad"):
            script.mark(MarkKind.GRADIENT, "a.weight", 0x2100, owner="a.weight")
            script.free(0x1000, 30)
    with script.phase("optimizer"):
        with script.scope(ScopeKind.USER, "Optimizer.step#SGD.step"):
            if index == 0:
                for address, size in ((0x3000, 100), (0x3100, 40), (0x3200, 4)):
                    script.alloc(address, size)
            with script.operator("aten::add"):
                script.alloc(0x3300, 6)
            script.free(0x3300, 6)
        script.mark(MarkKind.OPTIMIZER_STATE, "momentum_buffer", 0x3000, owner="a.weight")
        script.mark(MarkKind.OPTIMIZER_STATE, "momentum_buffer", 0x3100, owner="b.weight")
        script.mark(MarkKind.OPTIMIZER_STATE, "step", 0x3200, owner="a.weight")
    script.free(0x1200, 12)
    script.free(0x2000, 40)
    script.free(0x2100, 100)


# Alive through every steady step: parameters 140, inputs 16, state 144.
HELD = 140 + 16 + 144


def test_the_peak_of_the_steady_steps():
    summary = summarize(canonical().recording())
    # before the optimizer's temporary the last gradient joins 30 + 12 of activations and 40 of gradients
    assert summary.peak.bytes == HELD + 30 + 12 + 40 + 100
    assert (summary.peak.phase, summary.peak.module, summary.peak.operator) == ("backward", "a", "aten::mm")
    expected = {
        Category.PARAMETERS: 140,
        Category.INPUTS: 16,
        Category.OPTIMIZER_STATE: 144,
        Category.ACTIVATIONS: 42,
        Category.GRADIENTS: 140,
    }
    assert {category: size for category, size in summary.peak.by_category.items() if size} == expected
    assert sum(summary.peak.by_category.values()) == summary.peak.bytes == summary.allocator.peak_bytes
    assert summary.peak.requested_by_category == summary.peak.by_category


def test_what_was_asked_for_at_the_peak_stands_beside_what_the_allocator_gave():
    script = Script()
    script.alloc(0x10, 512, requested=400)
    script.mark(MarkKind.PARAMETER, "w", 0x10)
    peak = summarize(script.recording()).peak
    assert peak.bytes == peak.by_category[Category.PARAMETERS] == 512
    assert peak.requested_by_category[Category.PARAMETERS] == 400


def test_the_allocators_word():
    check = summarize(canonical().recording()).allocator
    # a step's events: 4 in forward, 3 in backward, 2 in the optimizer, 3 after it; two steady steps
    assert check.events == 2 * (4 + 3 + 2 + 3)
    assert check.max_disagreement_bytes == 0


def test_the_peak_of_each_phase():
    phases = summarize(canonical().recording()).phases
    assert {name: level.peak_bytes for name, level in phases.items()} == {
        "forward": HELD + 30 + 8 + 12,
        "backward": HELD + 30 + 12 + 140,
        "optimizer": HELD + 12 + 140 + 6,
    }
    assert all(sum(level.by_category.values()) == level.peak_bytes for level in phases.values())


def test_the_cold_step_stands_beside():
    cold = summarize(canonical().recording()).cold
    # state is not there yet at the end of backward (156 + 42 + 140), but is at the optimizer's temporary, without the
    # 30
    assert cold.peak_bytes == max(156 + 42 + 140, HELD + 12 + 140 + 6)
    assert cold.by_category[Category.OPTIMIZER_STATE] == 144
    assert cold.by_category[Category.OPTIMIZER_TEMPORARIES] == 6


def test_retained_and_transient_activations():
    activations = summarize(canonical().recording()).activations
    assert activations.retained_bytes == 30 + 12
    assert activations.held_by_autograd_bytes == 30  # freed in backward
    assert activations.held_by_python_bytes == 12  # freed after the step
    assert activations.transient_peak_bytes == 8
    assert (activations.recomputed_peak_bytes, activations.recomputed_bytes_at_peak) == (0, 0)


def test_optimizer_state_by_name():
    assert summarize(canonical().recording()).optimizer_state == {"momentum_buffer": 140, "step": 4}


def test_gradients_at_their_fullest():
    assert summarize(canonical().recording()).gradients_peak_bytes == 140


def test_modules():
    rows = summarize(canonical().recording()).modules
    # c is in the model but owns nothing; the root's own share is empty
    assert [(row.path, row.type) for row in rows] == [("", "Net"), ("a", "Linear"), ("b", "Linear"), ("c", "ReLU")]
    figures = [(r.parameter_bytes, r.retained_bytes, r.transient_peak_bytes, r.gradient_bytes) for r in rows]
    assert figures == [(0, 0, 0, 0), (100, 30, 8, 100), (40, 12, 0, 40), (0, 0, 0, 0)]


def test_a_single_step_is_its_own_steady_state():
    ledger = canonical(steps=1).ledger()
    window = steady_window(ledger)
    assert (window.first, window.last) == (ledger.steps[0].first, ledger.steps[0].last)
    assert summarize_ledger(ledger).steady_steps == 0


@pytest.mark.parametrize(("indices", "steady", "has_cold"), [((0,), 0, True), ((0, 1, 2), 2, True), ((3, 4), 2, False)])
def test_in_a_scripts_run_only_step_0_is_cold(indices, steady, has_cold):
    script = Script()
    for index in indices:
        with script.step(index):
            script.alloc(0x10, 9)
            script.free(0x10, 9)
    recording = script.recording()
    summary = summarize(replace(recording, workload={**recording.workload, "tool": RUN}))
    assert (summary.steady_steps, summary.cold is not None) == (steady, has_cold)


def test_what_a_gpu_has_reserved_is_left_open_where_nobody_told_it():
    recording = canonical().recording()
    gpu = replace(recording, devices=(replace(recording.devices[0], name="cuda:0"),))
    unknown = np.full(len(recording.events), UNKNOWN)
    untold = replace(gpu, events=replace(recording.events, reserved=unknown))
    assert summarize(untold).devices[0].reserved_peak_bytes is None
    told = replace(gpu, events=replace(recording.events, reserved=unknown + 4097))
    assert summarize(told).devices[0].reserved_peak_bytes == 4096


def test_without_steps_everything_is_the_window():
    script = Script()
    script.alloc(0x10, 9)
    script.free(0x10, 9)
    summary = summarize(script.recording())
    assert summary.peak.bytes == summary.cold.peak_bytes == 9
    assert summary.steady_steps == 0


def test_a_phase_that_did_not_happen_is_left_out():
    script = Script()
    with script.step(0), script.phase("forward"), script.operator("aten::mul"):
        script.alloc(0x10, 9)
    assert set(summarize(script.recording()).phases) == {"forward"}


def test_retained_is_that_of_the_fullest_backward_pass():
    script = Script()
    for index, size in enumerate((10, 30, 20)):
        with script.step(index):
            with script.phase("forward"), script.operator("aten::mul", index):
                script.alloc(0x10, size)
            with script.phase("backward"), script.node("MulBackward0", index):
                script.free(0x10, size)
    assert summarize(script.recording()).activations.retained_bytes == 30


def test_devices_have_summaries_of_their_own():
    script = Script(devices=2)
    with script.step(0):
        script.alloc(0x10, 9, device=0)
        script.alloc(0x10, 70, device=1)
        script.free(0x10, 9, device=0)
    first, second = summarize(script.recording()).devices
    assert (first.peak.bytes, first.allocator.events) == (9, 2)
    assert (second.peak.bytes, second.allocator.events) == (70, 1)
    assert second.peak.by_category[Category.UNATTRIBUTED] == 70


def test_modules_and_caches_are_those_of_the_main_device():
    held = (
        (MarkKind.PARAMETER, "a.weight", ""),
        (MarkKind.GRADIENT, "a.weight", ""),
        (MarkKind.OPTIMIZER_STATE, "exp_avg", "a.weight"),
        (MarkKind.KV_CACHE, "past_key_values.0", ""),
    )
    script = Script(devices=2)
    with script.step(0):
        for device, size in ((1, 700), (0, 10)):
            for place, (kind, name, owner) in enumerate(held):
                script.alloc(place, size + place, device)
                script.mark(kind, name, place, owner, device=device)
            with script.node("CheckpointFunctionBackward"), script.module("a"), script.operator("aten::mul", 1):
                script.alloc(0x10, size + 4, device)
    summary = summarize(script.recording())
    (row,) = (row for row in summary.modules if row.path == "a")
    assert (row.parameter_bytes, row.gradient_bytes, row.optimizer_state_bytes) == (10, 11, 12)
    assert summary.optimizer_state == {"exp_avg": 12}
    activations = summary.activations
    assert (activations.kv_cache_bytes_at_peak, activations.recomputed_bytes_at_peak) == (13, 14)


# -- sums over modules, on real runs ----------------------------------------------------------------------------------


class Shared(nn.Module):
    """A tied weight, a buffer, a parameter of the root's own, a nested block, a module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.scale = nn.Parameter(torch.ones(6))
        self.block = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Sigmoid())
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens) * self.scale
        return self.head(self.block(self.block(hidden)))


def train_shared() -> PassSummary:
    with recording_of() as running:
        with running.recorder.phase("build"):
            model = Shared()
            optimizer = torch.optim.Adam(model.parameters())
            tokens = torch.arange(5)
        running.recorder.watch(model)
        running.recorder.mark_inputs(tokens)
        for index in range(3):
            with running.recorder.step(index):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(tokens), tokens)
                loss.backward()
                optimizer.step()
                del loss
    return summarize_ledger(running.ledger)


def test_the_columns_over_modules_sum_to_the_totals():
    summary = train_shared()
    rows = summary.modules
    assert sum(row.retained_bytes for row in rows) == summary.activations.retained_bytes > 0
    assert sum(row.gradient_bytes for row in rows) == summary.gradients_peak_bytes
    assert sum(row.parameter_bytes for row in rows) == summary.peak.by_category[Category.PARAMETERS]
    assert sum(row.optimizer_state_bytes for row in rows) == sum(summary.optimizer_state.values()) > 0


def test_a_tied_weight_counts_at_its_first_path():
    rows = {row.path: row for row in train_shared().modules}
    # embedding 11*6 floats, shared with head; Linear 6*6+6, BatchNorm 6+6, scale 6
    assert {path: row.parameter_bytes for path, row in rows.items()} == {
        "": 6 * 4,
        "embedding": 66 * 4,
        "block": 0,
        "block.0": 42 * 4,
        "block.1": 12 * 4,
        "block.2": 0,
        "head": 0,
    }
    assert {path: row.gradient_bytes for path, row in rows.items()} == {
        path: row.parameter_bytes for path, row in rows.items()
    }


def test_the_peak_of_a_phase_leaves_out_what_was_found_gone_before_it() -> None:
    script = Script()
    script.seed(0xA0, 100)
    script.mark(MarkKind.PARAMETER, "a.weight", 0xA0)
    script.seed(0xA1, 100)
    script.mark(MarkKind.GRADIENT, "a.weight", 0xA1)
    script.alloc(0xC0, 16)
    script.gone(0xA1)  # zero_grad()
    with script.phase("forward"), script.module("a"), script.operator("aten::addmm", 0):
        script.alloc(0x1000, 30)
    forward = summarize(script.recording()).phases["forward"]
    assert forward.peak_bytes == 100 + 16 + 30
    assert (forward.by_category[Category.GRADIENTS], sum(forward.by_category.values())) == (0, 146)


def test_a_steady_step_begins_without_what_was_found_gone_in_the_cold_one() -> None:
    script = Script()
    script.seed(0x10, 100)
    with script.step(0):
        script.alloc(0x20, 5)
        script.gone(0x10)
    with script.step(1):
        script.free(0x20, 5)
    found = summarize(script.recording())
    # it begins with the 5 bytes alone, and nothing is higher
    assert (found.peak.bytes, found.allocator.peak_bytes) == (5, 5)
    assert sum(site.bytes_at_peak for site in found.sites) == 5


def test_what_was_freed_where_no_profiler_looked_is_told() -> None:
    script = Script()
    for _ in range(2):
        script.alloc(0x10, 64)  # the second time its place is given out again, without a word of its end
    script.seed(0x20, 8)
    script.alloc(0x20, 8)  # what was older ends silently as a rule
    script.free(0x30, 4)
    script.alloc(0x30, 4)
    (note,) = summarize(script.recording()).notes
    assert note == (
        "64 bytes were freed where no profiler looked, on another thread (blocks: 1): the allocator's own total still "
        "counts them, and so do these figures"
    )
