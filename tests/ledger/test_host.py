"""Host memory at its highest: planted native and Python memory is found in its line, and the lines always add up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Script
from vramscope.ledger.host import NO_HEAP, HostSummary, host_summary
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import summarize_ledger
from vramscope.recorders.boundaries import boundaries
from vramscope.recorders.joining import with_host
from vramscope.recorders.samples import HostKind, HostSamples
from vramscope.recording.file import read_recording
from vramscope.recording.recording import Recording

MIB = 2**20

# One pass of a model whose parts each take memory of another sort, once, and keep it. Run in a child per measurement.
PASS = """
import ctypes, sys
from pathlib import Path
import numpy, torch
from torch import nn
from vramscope.recorders.host import HostKind, HostRecorder
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.file import write_recording

MIB = 2**20
c_library = ctypes.CDLL(None)
c_library.malloc.restype = ctypes.c_void_p
c_library.malloc.argtypes = [ctypes.c_size_t]
c_library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


class Keeper(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.take()
        return x


class Native(Keeper):
    def take(self):
        return c_library.memset(c_library.malloc(64 * MIB), 1, 64 * MIB)


class Numpy(Keeper):
    def take(self):
        return numpy.ones(32 * MIB, dtype=numpy.uint8)


class Tensors(Keeper):
    def take(self):
        return torch.ones(16 * MIB, dtype=torch.uint8)


class Untouched(Keeper):
    def take(self):
        return torch.empty(64 * MIB, dtype=torch.uint8)


def run_pass(recorder, parts):
    recorder.start()
    with recorder.phase("build"):
        model = nn.Sequential(*(part() for part in parts))
        inputs = torch.ones(2 * MIB)
    recorder.watch(model)
    recorder.mark_inputs(inputs)
    for index in range(2):
        with recorder.step(index), recorder.phase("forward"), torch.inference_mode():
            model(inputs)
    return recorder.finish({}, [])


role, output, parts = sys.argv[1], Path(sys.argv[2]), [globals()[name] for name in sys.argv[3:]]
torch.ones(1000)  # code that every program loads is loaded
if role == "main":
    write_recording(run_pass(ProfilerRecorder(), parts), output)
else:
    output.write_text(run_pass(HostRecorder(HostKind(role)), parts).to_json())
"""


def measured(folder: Path, *parts: str) -> tuple[Recording, HostSummary]:
    """The joined recording of a pass of the parts, each measurement made in a process of its own, and its summary."""
    for role in ("main", *HostKind):
        subprocess.run([sys.executable, "-c", PASS, role, folder / role, *parts], check=True, timeout=300)
    rss, heap = (HostSamples.from_json((folder / kind).read_text()) for kind in HostKind)
    recording = with_host(read_recording(folder / "main"), rss, heap)
    summary = host_summary(Ledger(recording))
    assert summary is not None
    assert_adds_up(summary)
    return recording, summary


def assert_adds_up(summary: HostSummary) -> None:
    grown = summary.rss_peak_bytes - summary.rss_before_bytes
    parts = (summary.tensor_bytes_at_peak, summary.python_heap_bytes_at_peak, summary.native_remainder_bytes)
    assert sum(parts) == grown


def test_native_and_numpy_memory_are_found_in_their_lines(tmp_path: Path) -> None:
    recording, summary = measured(tmp_path, "Native", "Tensors", "Numpy")
    assert recording.notes == ()
    assert abs(summary.native_remainder_bytes - 64 * MIB) < 6.4 * MIB
    assert abs(summary.python_heap_bytes_at_peak - 32 * MIB) < 3.2 * MIB
    # the input, 2 Mi float32 of 4 bytes, and the 16 MiB kept by Tensors; the forward makes nothing else
    assert summary.tensor_bytes_at_peak == (8 + 16) * MIB
    assert summary.phase in ("forward", None)  # what was taken stays: a page more may come after the phase
    assert set(summary.methods) == {"rss", "python_heap"}


def test_tensors_that_were_never_touched_make_the_remainder_negative(tmp_path: Path) -> None:
    _, summary = measured(tmp_path, "Untouched")
    assert summary.tensor_bytes_at_peak == (8 + 64) * MIB
    assert abs(summary.native_remainder_bytes + 64 * MIB) < 6.4 * MIB


# -- by hand ----------------------------------------------------------------------------------------------------------


def one_step() -> Recording:
    """A block of 100 over the whole step, one of 50 within module ``a``, and one of 7 that is freed before the step."""
    script = Script()
    with script.phase("build"):
        script.alloc(1, 100)
        script.alloc(2, 7)
        script.free(2, 7)
    with script.step(0), script.phase("forward"):
        with script.module("a"):
            script.alloc(3, 50)
            script.free(3, 50)
        with script.module("b"):
            pass
    return script.recording()


# the boundaries of `one_step`, and the bytes of its blocks at their highest since the boundary before
TENSORS = {
    "phase+ build": 0,
    "phase- build": 107,
    "step+ 0": 100,
    "phase+ forward": 100,
    "module+ a": 100,
    "module- a": 150,
    "module+ b": 100,
    "module- b": 100,
    "phase- forward": 100,
    "step- 0": 100,
}


def host_samples(kind: HostKind, before: int, peaks: dict[str, int]) -> HostSamples:
    values = np.array([peaks.get(label, before) for label in TENSORS], dtype=np.int64)
    return HostSamples(kind, before, tuple(TENSORS), values, f"method of {kind}")


def summary_of(rss: dict[str, int], heap: dict[str, int], before: int = 1000) -> HostSummary:
    samples = host_samples(HostKind.RSS, before, rss), host_samples(HostKind.PYTHON_HEAP, 20, heap)
    summary = host_summary(Ledger(with_host(one_step(), *samples)))
    assert summary is not None
    return summary


@pytest.mark.parametrize(
    ("label", "phase", "module"),
    [
        ("phase+ forward", None, ""),
        ("module+ a", "forward", ""),
        ("module- a", "forward", "a"),
        ("module- b", "forward", "b"),
        ("step- 0", None, ""),
    ],
)
def test_the_highest_stretch_of_a_step_is_taken_apart(label: str, phase: str | None, module: str) -> None:
    summary = summary_of({label: 5000, "phase- build": 9000}, {label: 320, "phase- build": 9000})
    heap_bytes = 300  # 320 less the 20 before the model
    assert summary == HostSummary(
        rss_before_bytes=1000,
        rss_peak_bytes=5000,
        tensor_bytes_at_peak=TENSORS[label],
        python_heap_bytes_at_peak=heap_bytes,
        native_remainder_bytes=5000 - 1000 - TENSORS[label] - heap_bytes,
        phase=phase,
        module=module,
        methods={"rss": "method of rss", "python_heap": "method of python_heap"},
        notes=(),
    )


@given(
    st.lists(st.integers(0, 10**6), min_size=len(TENSORS), max_size=len(TENSORS)),
    st.lists(st.integers(0, 10**6), min_size=len(TENSORS), max_size=len(TENSORS)),
    st.integers(0, 10**6),
)
def test_the_lines_add_up_whatever_was_measured(rss: list[int], heap: list[int], before: int) -> None:
    summary = summary_of(dict(zip(TENSORS, rss, strict=True)), dict(zip(TENSORS, heap, strict=True)), before)
    assert_adds_up(summary)
    inside_step = rss[list(TENSORS).index("phase+ forward") :]
    assert summary.rss_peak_bytes == max(inside_step)


def test_a_window_is_kept_to() -> None:
    script = Script()
    for index in range(3):
        with script.step(index):
            script.alloc(index + 1, 10)
    recording = script.recording()
    labels, _ = boundaries(recording)
    peaks = np.array([0, 900, 0, 700, 0, 800], dtype=np.int64)  # at step+ and step- of each step
    ledger = Ledger(with_host(recording, HostSamples(HostKind.RSS, 0, labels, peaks, "by hand"), None))
    found = {
        (first, last): host_summary(ledger, ledger.steps[first].first, ledger.steps[last].last)
        for first, last in ((0, 2), (1, 2), (1, 1))
    }
    expected = {(0, 2): (900, 10), (1, 2): (800, 30), (1, 1): (700, 20)}
    got = {key: (summary.rss_peak_bytes, summary.tensor_bytes_at_peak) for key, summary in found.items() if summary}
    assert got == expected


def test_a_missing_python_heap_is_said() -> None:
    samples = host_samples(HostKind.RSS, 1000, {"module- a": 5000})
    summary = host_summary(Ledger(with_host(one_step(), samples, None)))
    assert summary is not None
    assert summary.python_heap_bytes_at_peak == 0
    assert summary.notes == (NO_HEAP,)
    assert_adds_up(summary)


def test_boundaries_that_did_not_match_are_said() -> None:
    rss, heap = host_samples(HostKind.RSS, 1000, {"module- a": 5000}), host_samples(HostKind.PYTHON_HEAP, 0, {})
    shorter = replace(heap, labels=heap.labels[:-1], peak_bytes=heap.peak_bytes[:-1])
    summary = host_summary(Ledger(with_host(one_step(), rss, shorter)))
    assert summary is not None
    assert len(summary.notes) == 1
    assert "1 boundaries" in summary.notes[0]


def test_a_heap_sample_that_covers_more_serves_a_stretch_without_its_own() -> None:
    heap = host_samples(HostKind.PYTHON_HEAP, 0, {"module- a": 40, "module+ b": 60})
    keep = [label != "module- a" for label in heap.labels]
    labels = tuple(label for label in heap.labels if label != "module- a")
    without = replace(heap, labels=labels, peak_bytes=heap.peak_bytes[keep])
    rss = host_samples(HostKind.RSS, 1000, {"module- a": 5000})
    summary = host_summary(Ledger(with_host(one_step(), rss, without)))
    assert summary is not None
    # the sample at "module+ b" now reaches back to "module+ a"
    assert summary.python_heap_bytes_at_peak == 60


def test_of_the_process_all_but_tensors_is_outside_the_allocator() -> None:
    rss = host_samples(HostKind.RSS, 1000, {"module- a": 5000})
    (cpu,) = summarize_ledger(Ledger(with_host(one_step(), rss, None))).devices
    assert (cpu.reserved_peak_bytes, cpu.process_used_bytes, cpu.outside_allocator_bytes) == (150, 5000, 4850)


@pytest.mark.parametrize("rss", [True, False])
def test_without_rss_or_steps_there_is_no_summary(rss: bool) -> None:
    if rss:
        recording = Script().recording()
        recording = with_host(recording, host_samples(HostKind.RSS, 1, {}), None)
    else:
        recording = with_host(one_step(), None, host_samples(HostKind.PYTHON_HEAP, 1, {}))
    assert host_summary(Ledger(recording)) is None


def test_tensors_on_a_gpu_take_no_host_memory() -> None:
    script = Script(devices=2)  # cpu and cuda:1
    with script.step(0):
        script.alloc(1, 100, device=1)
        script.alloc(2, 30, device=0)
    recording = script.recording()
    labels, _ = boundaries(recording)
    samples = HostSamples(HostKind.RSS, 0, labels, np.array([0, 50], dtype=np.int64), "by hand")
    summary = host_summary(Ledger(with_host(recording, samples, None)))
    assert summary is not None
    assert summary.tensor_bytes_at_peak == 30
    gpu_only = replace(recording, devices=tuple(replace(device, name="cuda:0") for device in recording.devices))
    summary = host_summary(Ledger(with_host(gpu_only, samples, None)))
    assert summary is not None
    assert summary.tensor_bytes_at_peak == 0


def test_what_with_host_adds_is_plain_json() -> None:
    recording = with_host(one_step(), host_samples(HostKind.RSS, 1, {}), host_samples(HostKind.PYTHON_HEAP, 1, {}))
    assert json.loads(json.dumps(recording.environment)) == recording.environment
