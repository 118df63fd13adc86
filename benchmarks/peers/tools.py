"""The tools that are compared: how each is turned on, what its step costs, and what it says of memory."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

import vramscope
from benchmarks.peers.models import Model
from benchmarks.peers.session import Session, allocations
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recording.file import write_recording
from vramscope.recording.recording import PhaseName

SPLIT = (Category.PARAMETERS, Category.GRADIENTS, Category.OPTIMIZER_STATE)
"""The categories whose bytes after a step can be derived by hand, and that most tools name."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a step under a tool, and of getting its report afterwards."""

    step_seconds: float
    report_seconds: float


@dataclass(frozen=True)
class Claim:
    """What a tool says of a training step.

    Attributes:
        peak_bytes: the most that was alive at once.
        split: bytes after the step of the categories in `SPLIT` that it names.
        backward_share: the part of what backward allocated, by bytes, that it books on a module; None where it has no
            notion of that.
    """

    peak_bytes: int
    split: Mapping[Category, int]
    backward_share: float | None = None


class Tool(Protocol):
    """A way to look at the memory of a step."""

    def time(self, session: Session) -> Timing | None:
        """Run one step under the tool; None for a tool that runs no step."""

    def claim(self, model: Model) -> Claim:
        """Build the model and give what the tool says of a steady step."""
        ...


class Vramscope:
    """This project: `vramscope.profile` around the loop."""

    def time(self, session: Session) -> Timing:
        recorder = ProfilerRecorder()
        recorder.start()
        recorder.watch(session.prepared.model)
        with recorder.step(0):
            seconds = session.step(recorder)
        begin = time.perf_counter()
        recording = recorder.finish({}, ())
        with tempfile.TemporaryDirectory() as folder:
            write_recording(recording, Path(folder) / "bench.vram")
        return Timing(seconds, time.perf_counter() - begin)

    def claim(self, model: Model) -> Claim:
        session = Session(model.prepare())
        inputs = dict(session.prepared.input_tensors())
        with (
            vramscope.profile(session.prepared.model, session.optimizers, inputs=inputs) as profile,
            profile.step(0),
        ):
            session.step(profile)
        ledger = profile.ledger
        after = ledger.composition(ledger.steps[0].last - 1)
        return Claim(profile.summary.peak.bytes, {c: after[c] for c in SPLIT}, _booked_share(ledger))


def _booked_share(ledger: Ledger) -> float:
    """The part of what backward allocated that belongs to a module."""
    backward = ledger.periods.phase_rows(ledger.blocks.birth)
    names = np.array([phase.name == PhaseName.BACKWARD for phase in ledger.periods.phases] + [False])
    born = names[backward] & (ledger.blocks.birth >= 0)
    known = ledger.lineage.has_module[ledger.blocks.birth_scope]  # the root and the loss are places too
    booked = born & (known | (ledger.module > 0))
    return float(ledger.blocks.size[booked].sum() / ledger.blocks.size[born].sum())


class MemTracker:
    """PyTorch's dispatch-mode tracker, torch.distributed._tools.mem_tracker."""

    def time(self, session: Session) -> Timing:
        with self._tracker(session) as tracker:
            seconds = session.step()
        begin = time.perf_counter()
        tracker.get_tracker_snapshot("peak")
        return Timing(seconds, time.perf_counter() - begin)

    def claim(self, model: Model) -> Claim:
        session = Session(model.prepare())
        with self._tracker(session) as tracker:
            session.step()
            after = _plain(tracker.get_tracker_snapshot("current"))
        peak = _plain(tracker.get_tracker_snapshot("peak"))
        names = dict(zip(SPLIT, ("Parameter", "Gradient", "Optstate"), strict=True))
        return Claim(peak["Total"], {category: after[name] for category, name in names.items()})

    def _tracker(self, session: Session) -> Any:
        from torch.distributed._tools.mem_tracker import MemTracker as Tracker

        tracker = Tracker()
        tracker.track_external(session.prepared.model, *session.optimizers, *session.inputs)
        return tracker


def _plain(snapshot: Mapping[torch.device, Mapping[Any, int]]) -> dict[str, int]:
    """The CPU's bytes by the names that MemTracker prints."""
    return {getattr(key, "value", key): size for key, size in snapshot[torch.device("cpu")].items()}


class TorchProfiler:
    """torch.profiler with memory, shapes and stacks: what its memory timeline needs."""

    def time(self, session: Session) -> Timing:
        profiler = self._profiler()
        profiler.start()
        seconds = session.step()
        begin = time.perf_counter()
        with _silence():
            profiler.stop()
        self._timeline(profiler)
        return Timing(seconds, time.perf_counter() - begin)

    def claim(self, model: Model) -> Claim:
        session = Session(model.prepare())
        with _silence(), self._profiler() as profiler:
            session.step()
        from torch.profiler._memory_profiler import Category as Theirs

        levels, places = self._timeline(profiler)
        names = dict(zip(SPLIT, (Theirs.PARAMETER, Theirs.GRADIENT, Theirs.OPTIMIZER_STATE), strict=True))
        after = {category: int(levels[-1, places[name] + 1]) for category, name in names.items()}
        return Claim(int(levels.sum(axis=1).max()), after, _booked_by_stack(profiler))

    def _profiler(self) -> Any:
        activities = [torch.profiler.ProfilerActivity.CPU]
        return torch.profiler.profile(activities=activities, profile_memory=True, record_shapes=True, with_stack=True)

    def _timeline(self, profiler: Any) -> tuple[Any, Mapping[Any, int]]:
        """[times, 1 + categories] bytes, and the place of each category."""
        from torch.profiler import _memory_profiler as theirs

        timeline = theirs.MemoryProfileTimeline(profiler._memory_profile())
        _, levels = timeline._coalesce_timeline("cpu")  # what export_memory_timeline writes
        return np.array(levels, dtype=np.int64), theirs._CATEGORY_TO_INDEX


def _booked_by_stack(profiler: Any) -> float:
    """The part of what was allocated below an autograd node that has a module among its ancestors."""
    total = booked = 0
    for event in allocations(profiler.profiler.kineto_results.experimental_event_tree()):
        names = _ancestors(event)
        size = event.extra_fields.alloc_size
        if size > 0 and any(name.startswith("autograd::engine") for name in names):
            total += size
            booked += size * any(name.startswith("nn.Module: ") for name in names)
    return booked / total if total else 0.0


def _ancestors(event: Any) -> list[str]:
    names = []
    while event is not None:
        names.append(str(event.name))
        event = event.parent
    return names


class Memray:
    """memray: every malloc of the process, whoever called it."""

    def __init__(self, *, native: bool) -> None:
        self._native = native

    def time(self, session: Session) -> Timing:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bench.bin"
            with self._tracker(file):
                seconds = session.step()
                begin = time.perf_counter()
            self._peak(file)
            report = time.perf_counter() - begin
        return Timing(seconds, report)

    def claim(self, model: Model) -> Claim:
        """Track from before the model is built; it knows nothing of what is older."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bench.bin"
            with self._tracker(file):
                Session(model.prepare()).step()
            peak = self._peak(file)
        return Claim(peak, {})

    def _tracker(self, file: Path) -> AbstractContextManager[Any]:
        import memray

        return memray.Tracker(file, native_traces=self._native)

    def _peak(self, file: Path) -> int:
        import memray

        with memray.FileReader(file) as reader:
            size: int = sum(record.size for record in reader.get_high_watermark_allocation_records(merge_threads=True))
        return size


class Torchinfo:
    """torchinfo's estimate: parameters, inputs, and every output twice."""

    def time(self, session: Session) -> None:
        return None

    def claim(self, model: Model) -> Claim:
        import torchinfo

        prepared = model.prepare()
        said = torchinfo.summary(prepared.model, input_data=prepared.inputs[0], verbose=0, mode="train")
        size = said.total_param_bytes + said.total_output_bytes + said.total_input
        return Claim(size, {Category.PARAMETERS: said.total_param_bytes})


class Accelerate:
    """accelerate's ``estimate-memory``: four times the model for training with Adam."""

    def time(self, session: Session) -> None:
        return None

    def claim(self, model: Model) -> Claim:
        from accelerate.commands.estimate import estimate_training_usage
        from accelerate.utils import calculate_maximum_sizes

        size, _ = calculate_maximum_sizes(model.prepare().model)
        said = estimate_training_usage(size, "float32")
        names = dict(zip(SPLIT, ("model", "gradients", "optimizer"), strict=True))
        return Claim(said["step"], {category: said[name] for category, name in names.items()})


@contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


TOOLS: dict[str, Callable[[], Tool]] = {
    "vramscope": Vramscope,
    "MemTracker": MemTracker,
    "torch.profiler": TorchProfiler,
    "memray": lambda: Memray(native=False),
    "memray --native": lambda: Memray(native=True),
    "torchinfo": Torchinfo,
    "accelerate": Accelerate,
}
"""The tools by the name that the tables have for them."""
