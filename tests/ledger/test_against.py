"""A prediction beside a measurement: the figures on both sides, and where they part."""

import gc
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from helpers import Script, record_pass
from vramscope.ledger.against import Figure, Place, set_against
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.virtual.recorder import VirtualRecorder
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions


def predicted(batch: int) -> Ledger:
    gc.collect()
    options = WorkloadOptions(batch=batch, steps=1)
    return Ledger(run_pass(resolve("mlp"), options, PassName.TRAINING, VirtualRecorder(), lambda _: None))


pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@pytest.fixture(scope="module")
def measured() -> Ledger:
    return record_pass("mlp", batch=3, steps=1)


def test_alike_where_the_rules_know_everything(measured):
    against = set_against(predicted(3), measured)
    assert (against.parting, against.matching) == (None, 1.0)
    assert against.allocations[0] == against.allocations[1] > 0
    assert against.reserved is None  # the CPU's allocator reserves nothing
    differing = {name for name, figure in against.by_category.items() if figure.difference_bytes}
    assert differing <= {Category.WORKSPACE}


def test_where_the_two_peaks_are(measured):
    """AdamW's foreach step is at its fullest with the quotients; 3,000 images take more than the weights."""
    optimizer = Place("optimizer", "", "aten::div")
    assert set_against(predicted(3), measured).peaks_at == (optimizer, optimizer)
    many, few = set_against(predicted(3000), measured).peaks_at
    assert (many.phase, few) == ("backward", optimizer)


def asked_for_more(recording, row: int, more_bytes: int):
    """The recording with a larger allocation, as the program asked for it."""
    requested = recording.events.requested.copy()
    requested[row] += more_bytes
    return replace(recording, events=replace(recording.events, requested=requested))


@pytest.mark.parametrize("which", [0, 3, -1])
def test_the_first_allocation_that_differs(measured, which):
    step = measured.steps[1]
    rows = np.arange(step.first, step.last)
    scratch = measured.is_category(Category.WORKSPACE)[measured.blocks.of_event[rows]]
    births = rows[(measured.recording.events.size[rows] > 0) & ~scratch]
    changed = Ledger(asked_for_more(measured.recording, int(births[which]), 64))
    parting = set_against(predicted(3), changed).parting
    assert parting.index == which % len(births)
    assert parting.measured.bytes - parting.predicted.bytes == 64
    assert parting.measured.event == births[which]
    assert parting.predicted.operator == parting.measured.operator


def test_only_what_the_main_device_has_reserved_is_compared(measured):
    def on_gpus(ledger, reserved_bytes):
        """The same with a GPU that has reserved so much, and with an event of a second one that has reserved more."""
        recording = ledger.recording
        device = np.zeros(len(ledger), dtype=np.int64)
        device[ledger.steps[1].first + 3] = 1
        events = replace(recording.events, device=device, reserved=np.where(device == 1, 1 << 40, reserved_bytes))
        (own,) = recording.devices
        return Ledger(
            replace(recording, events=events, devices=(replace(own, name="cuda:0"), replace(own, name="cuda:1")))
        )

    against = set_against(on_gpus(predicted(3), 5 << 20), on_gpus(measured, 4 << 20))
    assert (against.reserved.predicted_bytes, against.reserved.measured_bytes) == (5 << 20, 4 << 20)


def test_another_batch_shows_in_activations_and_inputs_alone(measured):
    against = set_against(predicted(4), measured)
    # 4 samples for 3: 784 float32 inputs and an int64 target more
    assert against.by_category[Category.INPUTS].difference_bytes == 784 * 4 + 8
    assert against.by_category[Category.PARAMETERS].difference_bytes == 0
    assert against.parting is not None
    assert 0 < against.matching < 1


def test_a_side_that_ends_first_has_no_allocation(measured):
    first = measured.steps[1].first
    births = np.flatnonzero((measured.recording.events.size > 0) & (np.arange(len(measured)) >= first))
    cut = measured.recording.events.take(np.arange(len(measured)) < births[2])
    shorter = Ledger(replace(measured.recording, events=cut))
    parting = set_against(predicted(3), shorter).parting
    assert (parting.measured, parting.predicted is None) == (None, False)


def scripted(*steps: tuple[int, ...]) -> Ledger:
    """Steps that each make blocks of some sizes and free them; without any step of a single tuple's blocks."""
    script = Script()
    for index, sizes in enumerate(steps):
        with script.step(index) if len(steps) > 1 else nullcontext():
            for place, size in enumerate(sizes):
                script.alloc(place, size)
            for place, size in enumerate(sizes):
                script.free(place, size)
    return script.ledger()


def test_what_has_no_steps_is_taken_for_the_last_one() -> None:
    against = set_against(scripted((8, 8), (8, 8, 8), (16, 32)), scripted((16, 32)))
    assert (against.allocations, against.matching, against.parting) == ((2, 2), 1.0, None)
    assert (against.peak, against.categories_known) == (Figure(48, 48), False)


def test_sequences_share_what_comes_in_the_same_order_unless_they_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted_sizes, measured_sizes = (1, 2, 3, 4), (1, 3, 4)
    assert set_against(scripted((), predicted_sizes), scripted(measured_sizes)).matching == 3 / 4
    monkeypatch.setattr("vramscope.ledger.against._MOST_COMPARED", 4)
    assert set_against(scripted((), predicted_sizes), scripted(measured_sizes)).matching == 3 / 4
    monkeypatch.setattr("vramscope.ledger.against._MOST_COMPARED", 3)
    assert set_against(scripted((), predicted_sizes), scripted(measured_sizes)).matching is None


def test_the_most_that_was_reserved_is_compared() -> None:
    def on_a_gpu(ledger: Ledger, reserved: list[int]) -> Ledger:
        recording = ledger.recording
        events = replace(recording.events, reserved=np.array(reserved))
        return Ledger(replace(recording, events=events, devices=(replace(recording.devices[0], name="cuda:0"),)))

    own, other = on_a_gpu(scripted((), (8,)), [20, 10]), on_a_gpu(scripted((8,)), [30, 70])
    assert set_against(own, other).reserved == Figure(20, 70)
    assert set_against(own, scripted((8,))).reserved is None


def test_an_error_is_a_share_of_what_was_measured() -> None:
    assert (Figure(90, 100).difference_bytes, Figure(90, 100).error) == (-10, -0.1)
    assert Figure(90, 0).error is None
