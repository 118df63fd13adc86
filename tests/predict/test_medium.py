"""The `medium_*` recordings of a real GPU, predicted from a model written after their description.

The rules were developed on the training step of context 128; the two of context 256 only score them. Needs the folder
`../shared/snapshots`. Prints a table: run with ``-s``.
"""

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from predict.medium import BATCH, VOCABULARY, WARM_UPS, AdamW, Medium, cross_entropy
from vramscope.allocator.replay import Replay, replay
from vramscope.allocator.snapshot.model import Action
from vramscope.allocator.snapshot.reader import read_snapshot
from vramscope.ledger.ledger import Ledger
from vramscope.predict.cuda_kernels import cuda_kernels
from vramscope.predict.cuda_recording import on_cuda
from vramscope.predict.cuda_rules import cuda_rules
from vramscope.predict.gpus import find_gpu
from vramscope.predict.scores import read_scores
from vramscope.recorders.virtual.recorder import VirtualRecorder
from vramscope.recording.recording import Integers, Recording, ScopeKind

SNAPSHOTS = Path(__file__).parents[2].parent / "shared" / "snapshots"
NAMES = ("medium_128_training", "medium_256_training", "medium_256_inference")
PREDICTED_WARM_UPS = 2
"""The second step already finds every cache warm, so that the recorded five would only take longer."""

needs_snapshots = pytest.mark.skipif(not SNAPSHOTS.is_dir(), reason="the folder shared/snapshots is absent")


@dataclass(frozen=True)
class Scored:
    """A recorded step and its prediction; bytes."""

    measured: Replay
    measured_sizes: list[int]
    predicted_allocated: int
    predicted_reserved: int
    predicted_sizes: list[int]

    @property
    def allocated_error(self) -> float:
        return self.predicted_allocated / self.measured.peak_allocated - 1

    @property
    def reserved_error(self) -> float:
        return self.predicted_reserved / self.measured.peak_reserved - 1

    @property
    def matching(self) -> float:
        if self.measured_sizes == self.predicted_sizes:
            return 1.0
        matcher = difflib.SequenceMatcher(None, self.measured_sizes, self.predicted_sizes, autojunk=False)
        same = sum(block.size for block in matcher.get_matching_blocks())
        return same / max(len(self.measured_sizes), len(self.predicted_sizes))


def predict(context: int, training: bool) -> Recording:
    # any GPU with the default cuBLAS workspace of 8,519,680 bytes
    gpu = find_gpu("a100-80gb")
    recorder = VirtualRecorder(cuda_rules(gpu), keep_real=False, kernels=cuda_kernels(gpu))
    recorder.start()
    try:
        run_steps(recorder, context, training)
        return on_cuda(recorder.finish(), gpu)
    finally:
        recorder.abandon()


def run_steps(recorder: VirtualRecorder, context: int, training: bool) -> None:
    with recorder.phase("build"):
        model = Medium(context)
        drawn = [
            torch.randint(VOCABULARY, (count, BATCH, context)) for count in (WARM_UPS, 1) for _ in range(1 + training)
        ]
    recorder.watch(model)
    recorder.mark_inputs(drawn)
    optimizer = AdamW(model.parameters())
    if not training:
        for index, tokens in enumerate((*drawn[0][:PREDICTED_WARM_UPS], drawn[1][0])):
            with recorder.step(index), torch.inference_mode():
                model(tokens)
        return
    warm = list(zip(drawn[0], drawn[1], strict=True))[:PREDICTED_WARM_UPS]
    warm_up(recorder, model, optimizer, warm)
    with recorder.step(PREDICTED_WARM_UPS):
        training_step(recorder, model, optimizer, drawn[2][0], drawn[3][0])


def warm_up(recorder, model, optimizer, batches) -> None:
    """As the recorded program does: its names hold a step's logits and loss until the next step has its own."""
    for index, (tokens, targets) in enumerate(batches):
        with recorder.step(index):
            kept = training_step(recorder, model, optimizer, tokens, targets)
            optimizer.zero_grad(set_to_none=True)
    del kept


def training_step(recorder, model, optimizer, tokens, targets) -> Any:
    """Forward, loss, backward and optimizer step; gives the logits and the loss."""
    with recorder.phase("forward"):
        logits = model(tokens)
        loss = cross_entropy(logits, targets)
    loss.backward()
    with recorder.phase("optimizer"):
        optimizer.step()
    return logits, loss


@functools.cache
def score(name: str) -> Scored:
    snapshot = read_snapshot(SNAPSHOTS / f"{name}.pickle")
    _, context, kind = name.split("_")
    recording = predict(int(context), kind == "training")
    assert Ledger(recording).max_disagreement_bytes() == 0
    events, scopes = recording.events, recording.scopes
    last = events.time_ns >= scopes.start_ns[np.flatnonzero(scopes.kind == ScopeKind.STEP)[-1]]
    trace = snapshot.traces[0]
    sizes: Integers = trace.size[trace.action == Action.ALLOC]
    scored = Scored(
        measured=replay(snapshot, 0),
        measured_sizes=sizes.tolist(),
        predicted_allocated=int(events.total[last].max()),
        predicted_reserved=int(events.reserved[last].max()),
        predicted_sizes=events.requested[last & (events.size > 0)].tolist(),
    )
    print(
        f"\n{name}: allocated {scored.predicted_allocated:,} for {scored.measured.peak_allocated:,} "
        f"({scored.allocated_error:+.4%}), reserved {scored.predicted_reserved:,} for "
        f"{scored.measured.peak_reserved:,} ({scored.reserved_error:+.3%}), "
        f"{len(scored.predicted_sizes)} allocations for {len(scored.measured_sizes)}, {scored.matching:.3%} matching"
    )
    return scored


@needs_snapshots
@pytest.mark.parametrize("name", NAMES)
def test_these_are_the_errors_that_estimate_names(name):
    scored = score(name)
    kept = {row.figure: row for row in read_scores() if (row.source, row.name) == ("recorded", name)}
    assert kept["allocated"].measured_bytes == scored.measured.peak_allocated
    assert kept["reserved"].measured_bytes == scored.measured.peak_reserved
    assert kept["allocated"].predicted_bytes == scored.predicted_allocated
    assert kept["reserved"].predicted_bytes == scored.predicted_reserved


@needs_snapshots
@pytest.mark.parametrize("name", NAMES)
def test_peak_allocated_within_a_hundredth_of_a_percent(name):
    assert abs(score(name).allocated_error) <= 1e-4


@needs_snapshots
@pytest.mark.parametrize("name", NAMES)
def test_the_sequence_of_allocations_matches(name):
    assert score(name).matching >= 0.99


@needs_snapshots
@pytest.mark.parametrize("name", NAMES)
def test_peak_reserved_within_half_a_percent(name):
    assert abs(score(name).reserved_error) <= 5e-3
