"""A whole recording of a GPU, by way of every call that the recorder makes of torch.cuda."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.helpers import assert_agrees
from tests.recorders.fake_gpu import RESERVED, GpuOfCpu
from torch import nn

import vramscope
from vramscope.ledger.autopsy import autopsy
from vramscope.ledger.categories import Category
from vramscope.ledger.comparison import compare_recordings
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.gradients import GradientLives
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.scripts.recorder import StepRecorder
from vramscope.recorders.scripts.scene import Scene
from vramscope.recording.counters import DeviceCounter
from vramscope.recording.recording import PhaseName, Recording

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> GpuOfCpu:
    return GpuOfCpu(monkeypatch)


def train(recorder: ProfilerRecorder) -> None:
    """Two steps of a model that is gone afterwards."""
    model = nn.Sequential(nn.Linear(100, 30), nn.Tanh(), nn.Linear(30, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    recorder.watch(model)
    for index in range(2):
        with recorder.step(index):
            optimizer.zero_grad(set_to_none=True)
            with recorder.phase(PhaseName.FORWARD):
                loss = model(torch.ones(8, 100)).sum()
            with recorder.phase(PhaseName.BACKWARD):
                loss.backward()
            with recorder.phase(PhaseName.OPTIMIZER):
                optimizer.step()
            del loss


def recorded(program: Callable[[ProfilerRecorder], None]) -> Recording:
    recorder = ProfilerRecorder(GPU, history=True, own_process=True)
    recorder.start()
    try:
        program(recorder)
        return recorder.finish({"device": "cuda:0"})
    finally:
        recorder.abandon()


def test_every_byte_has_an_owner(gpu: GpuOfCpu) -> None:
    recording = recorded(train)
    ledger = Ledger(recording)
    assert_agrees(ledger)
    assert [device.name for device in recording.devices] == ["cuda:0", "cpu"]
    assert recording.devices[0].end_total == 0
    summary = compare_recordings({"training": recording}).passes["training"]
    held = summary.peak.by_category
    assert sum(held.values()) == summary.peak.bytes == summary.allocator.peak_bytes
    # blocks of 512 B: weights 12,288 and 1,536 (30 x 100 and 10 x 30 of 4 B), biases 512 and 512
    assert held[Category.PARAMETERS] == 14_848
    assert held[Category.OPTIMIZER_STATE] == 2 * 14_848 + 4 * 512  # two copies, and a step counter for each of four
    assert summary.devices[0].reserved_peak_bytes == RESERVED
    assert ledger.reserved_totals() is not None


class Nobody:
    """Takes no note of calls."""

    def call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...

    def call_ended(self, module: nn.Module, output: Any) -> None: ...


def step_of_script(start_gpus: Callable[[], None]) -> Recording:
    """A script's first step, recorded from before it has a model; half way it does what is given."""
    recorder = StepRecorder(CPU, lines=False, lives=GradientLives(), on_left=lambda: None, calls=Nobody())
    recorder.begin(Scene(), [], None)
    try:
        recorder.begin_step(0)
        start_gpus()
        train(recorder)
        recorder.end_step()
        return recorder.close({}, GPU)[0]
    finally:
        recorder.abandon()


def test_a_gpu_that_a_script_begins_to_use_is_its_main_device(gpu: GpuOfCpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    recording = step_of_script(lambda: monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True))
    main, cpu = recording.devices
    assert (main.name, main.start_total, cpu.name) == ("cuda:0", 0, "cpu")
    ledger = Ledger(recording)
    assert_agrees(ledger)
    assert ledger.composition(ledger.peak().event)[Category.PARAMETERS] == 14_848  # as above
    assert DeviceCounter.RESERVED in recording.strings  # the ends of phases after that were read


def test_gpus_that_a_script_never_uses_are_not_asked(gpu: GpuOfCpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    recording = step_of_script(lambda: None)
    assert [device.name for device in recording.devices] == ["cpu"]
    assert DeviceCounter.RESERVED not in recording.strings


def test_the_history_is_asked_for_as_torch_wants_it(gpu: GpuOfCpu) -> None:
    recorded(train)
    started, ended = gpu.history
    assert (started["enabled"], ended["enabled"]) == ("all", None)
    assert gpu.cleared == 1


def test_a_programs_own_history_goes_on(gpu: GpuOfCpu) -> None:
    gpu.is_recording = True
    recording = recorded(train)
    assert gpu.is_recording and not gpu.history
    assert any("left alone" in note for note in recording.notes)


def test_the_devices_are_read_at_the_ends_of_phases(gpu: GpuOfCpu) -> None:
    recording = recorded(train)
    counters, strings = recording.counters, recording.strings
    read = counters.name == strings.index(DeviceCounter.RESERVED)
    assert int(read.sum()) >= 8  # three phases and the step's end, twice
    assert set(counters.value[read].tolist()) == {RESERVED}


def test_the_report_has_the_gpus_table(gpu: GpuOfCpu) -> None:
    from vramscope.views.terminal import print_comparison

    console = Console(width=100, file=io.StringIO(), record=True)
    print_comparison(compare_recordings({"training": recorded(train)}), console)
    assert "Memory of cuda:0" in console.export_text()


def test_a_profile_that_runs_out_is_explained(gpu: GpuOfCpu, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 80.00 GiB of which 3.00 MiB is "
        "free. Of the allocated memory 1.00 KiB is allocated by PyTorch"
    )
    profile = vramscope.profile(device=GPU)
    with pytest.raises(torch.OutOfMemoryError), profile:
        kept = torch.empty(1000, dtype=torch.uint8)
        del kept
        try:
            torch.empty(2**50, dtype=torch.uint8)
        except RuntimeError as error:
            raise torch.OutOfMemoryError(words) from error
    found = autopsy(profile.ledger)
    assert found is not None
    assert (found.device, found.asked_bytes, found.available_bytes) == ("cuda:0", 20 << 20, 3 << 20)
    assert "out of memory on cuda:0: about 20.0 MiB asked for" in capsys.readouterr().err
