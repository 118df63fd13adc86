"""The host recorder: what it samples, when, and that nothing of it stays behind."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import PAGESIZE, mmap
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.nn.modules import module as hooks_of_torch
from torch.utils.checkpoint import checkpoint

from helpers import recording_of
from vramscope.errors import RecordingError
from vramscope.recorders import host
from vramscope.recorders.boundaries import boundaries
from vramscope.recorders.host import HostKind, HostRecorder, HostSamples, KernelPeakMeter, PythonHeapMeter, SampledMeter

MIB = 2**20
# The kernel counts pages per thread or per processor and adds them up now and then (mm/memory.c, SPLIT_RSS_COUNTING;
# include/linux/percpu_counter.h): far below this.
KERNEL_SLACK = 2 * MIB


def kernel_keeps_peaks() -> bool:
    try:
        KernelPeakMeter().close()
    except OSError:
        return False
    return True


needs_kernel_peak = pytest.mark.skipif(not kernel_keeps_peaks(), reason="the kernel's peak RSS cannot be reset here")


def samples(**changes: Any) -> HostSamples:
    facts = {
        "kind": HostKind.RSS,
        "before_bytes": 5,
        "labels": ("step+ 0", "step- 0"),
        "peak_bytes": np.array([7, 2**40], dtype=np.int64),
        "method": "by hand",
    }
    return HostSamples(**{**facts, **changes})


@contextmanager
def host_recorder(kind: HostKind = HostKind.RSS) -> Iterator[HostRecorder]:
    recorder = HostRecorder(kind)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.abandon()


def installed_hooks() -> tuple[int, int, object]:
    return (
        len(hooks_of_torch._global_forward_hooks),
        len(hooks_of_torch._global_forward_pre_hooks),
        torch.autograd._engine_run_backward,
    )


def open_files() -> int:
    return psutil.Process().num_fds()


# -- samples from process to process ----------------------------------------------------------------------------------


def test_samples_survive_json() -> None:
    given = samples()
    read = HostSamples.from_json(given.to_json())
    assert (read.kind, read.before_bytes, read.labels, read.method) == (
        HostKind.RSS,
        5,
        ("step+ 0", "step- 0"),
        "by hand",
    )
    np.testing.assert_array_equal(read.peak_bytes, given.peak_bytes)
    assert read.peak_bytes.dtype == np.int64


def test_no_samples_survive_json() -> None:
    read = HostSamples.from_json(samples(labels=(), peak_bytes=np.array([], dtype=np.int64)).to_json())
    assert read.labels == ()
    assert read.peak_bytes.dtype == np.int64


def test_a_cut_or_foreign_text_is_refused() -> None:
    facts = json.loads(samples().to_json())
    texts = [
        samples().to_json()[:-5],
        "",
        "[]",
        "{}",
        json.dumps({**facts, "kind": "swap"}),
        json.dumps({**facts, "peak_bytes": [1]}),
        json.dumps({**facts, "peak_bytes": ["a", "b"]}),
        json.dumps({**facts, "peak_bytes": [1, 2**70]}),
    ]
    for text in texts:
        with pytest.raises(RecordingError):
            HostSamples.from_json(text)


# -- meters -----------------------------------------------------------------------------------------------------------


@needs_kernel_peak
def test_the_kernel_peak_sees_what_is_gone_at_the_sample_and_only_once() -> None:
    meter = KernelPeakMeter()
    try:
        before = meter.current()
        meter.take_peak()
        # pages of their own, which no earlier test can have left behind; one byte in each makes it real
        with mmap(-1, 64 * MIB) as block:
            for page in range(0, 64 * MIB, PAGESIZE):
                block[page] = 1
        assert abs(meter.take_peak() - before - 64 * MIB) < KERNEL_SLACK
        assert abs(meter.take_peak() - before) < KERNEL_SLACK
    finally:
        meter.close()


@needs_kernel_peak
def test_the_kernel_meter_closes_its_files() -> None:
    before = open_files()
    meter = KernelPeakMeter()
    assert open_files() == before + 2
    meter.close()
    meter.close()
    assert open_files() == before


def test_without_the_kernels_files_rss_is_sampled_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "_CLEAR_REFS", str(tmp_path / "missing"))
    before = open_files()
    with host_recorder() as recorder:
        with recorder.step(0):
            pass
        found = recorder.finish()
    assert found.method == SampledMeter.method
    assert "sampled" in found.method
    assert (found.peak_bytes > 0).all()
    assert open_files() == before


def test_a_status_without_a_peak_is_no_kernel_meter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t 8 kB\n")
    (tmp_path / "clear_refs").write_text("")
    monkeypatch.setattr(host, "_STATUS", str(tmp_path / "status"))
    monkeypatch.setattr(host, "_CLEAR_REFS", str(tmp_path / "clear_refs"))
    before = open_files()
    meter = host.open_meter(HostKind.RSS)
    assert isinstance(meter, SampledMeter)
    assert open_files() == before


def test_a_sampled_peak_is_the_higher_end_of_its_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([10, 30, 20, 5])
    monkeypatch.setattr(SampledMeter, "current", lambda self: next(values))
    meter = SampledMeter()  # reads 10
    # stretches 10..30, 30..20, 20..5
    assert [meter.take_peak() for _ in range(3)] == [30, 30, 20]


def test_the_heap_meter_counts_live_bytes_exactly_and_not_its_own() -> None:
    meter = PythonHeapMeter()
    try:
        start = meter.current()
        meter.take_peak()
        own = tracemalloc.get_tracemalloc_memory()
        # A bytes object takes len + 33 bytes on 64-bit CPython, with its reference in the list 8 more.
        kept = [bytes(1000) for _ in range(10_000)]
        grown = meter.current() - start
        assert tracemalloc.get_tracemalloc_memory() - own > 10_000 * 16  # a trace for each: it would show
        exact = sum(item.__sizeof__() for item in kept) + kept.__sizeof__()
        assert abs(grown - exact) < 2_000  # the integers and locals of this function
    finally:
        meter.close()


def test_the_heap_meter_sees_numpy_but_no_tensors() -> None:
    meter = PythonHeapMeter()
    try:
        meter.take_peak()
        start = meter.current()
        tensor = torch.ones(2 * MIB)
        array = np.ones(MIB, dtype=np.uint8)
        del array
        # the array's MiB at its highest, not the tensor's 8; and besides it only small Python objects
        assert MIB <= meter.take_peak() - start < MIB + 20_000
        assert tensor.numel() == 2 * MIB
    finally:
        meter.close()


def test_tracing_that_somebody_else_began_goes_on() -> None:
    tracemalloc.start()
    try:
        with host_recorder(HostKind.PYTHON_HEAP) as recorder:
            recorder.finish()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


# -- boundaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HostKind)
def test_every_boundary_is_sampled_in_order(kind: HostKind) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with host_recorder(kind) as recorder:
        recorder.watch(model)
        recorder.mark_inputs(torch.ones(2))
        with recorder.step(0), recorder.phase("forward"):
            model(torch.ones(2))
        found = recorder.finish({"name": "any"}, ["any"])
    modules = ["module+ ", "module+ 0", "module- 0", "module+ 1", "module- 1", "module- "]
    assert found.labels == ("step+ 0", "phase+ forward", *modules, "phase- forward", "step- 0")
    assert found.kind == kind
    assert found.peak_bytes.shape == (10,)
    assert (found.peak_bytes >= 0).all()
    assert HostSamples.from_json(found.to_json()).labels == found.labels


def test_before_bytes_are_read_when_the_recorder_starts() -> None:
    with host_recorder(HostKind.PYTHON_HEAP) as recorder:
        kept = bytearray(MIB)
        with recorder.step(0):
            pass
        found = recorder.finish()
    assert found.before_bytes < MIB // 2
    assert found.peak_bytes[0] >= MIB == len(kept)


class Penalized(nn.Module):
    """Differentiates inside its own forward, through a graph of the backward pass: a phase that nobody announces."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.requires_grad_()
        value = self.inner(x).sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        return value + gradient.square().sum()


class Checkpointed(nn.Module):
    """Runs its part again inside backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 1)
        self._reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, x.requires_grad_(), use_reentrant=self._reentrant).sum()


class Fails(nn.Module):
    """Its first forward raises, which its parent catches."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with pytest.raises(RuntimeError):
            self.inner(x)
        return self.inner(x[..., :3]).sum()


def train(recorder: Any, model: nn.Module) -> None:
    """One training step as a pass runs it."""
    recorder.watch(model)
    with recorder.step(0):
        with recorder.phase("forward"):
            loss = model(torch.ones(2, 4))
        with recorder.phase("backward"):
            loss.backward()


@pytest.mark.parametrize("model", [Penalized(), Checkpointed(True), Checkpointed(False), Fails()])
def test_it_passes_the_boundaries_of_the_profiler_recorder(model: nn.Module) -> None:
    with host_recorder() as recorder:
        train(recorder, model)
        found = recorder.finish()
    with recording_of() as running:
        train(running.recorder, model)
    assert running.recording is not None
    assert found.labels == boundaries(running.recording)[0]
    assert found.labels.count("module+ inner") == found.labels.count("module- inner") > 0


# -- nothing stays behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HostKind)
def test_nothing_stays_behind(kind: HostKind) -> None:
    hooks, files = installed_hooks(), open_files()
    recorder = HostRecorder(kind)
    for end in (recorder.finish, recorder.abandon):
        recorder.start()
        assert installed_hooks() != hooks
        end()
        recorder.abandon()
        assert installed_hooks() == hooks
        assert open_files() == files
        assert not tracemalloc.is_tracing()


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kind: HostKind) -> None:
        raise MemoryError

    hooks = installed_hooks()
    monkeypatch.setattr(host, "open_meter", fail)
    with pytest.raises(MemoryError):
        HostRecorder(HostKind.RSS).start()
    assert installed_hooks() == hooks
