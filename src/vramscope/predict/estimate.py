"""Predicting a workload's passes on a GPU: fake tensors, CUDA's rules, the simulated allocator."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from unittest import mock

import torch

from vramscope.allocator.settings import AllocatorSettings
from vramscope.errors import TargetError, WorkloadError
from vramscope.predict.cuda_kernels import cuda_kernels
from vramscope.predict.cuda_recording import on_cuda
from vramscope.predict.cuda_rules import cuda_rules
from vramscope.predict.failures import explain
from vramscope.predict.gpus import CONTEXT_BYTES, Gpu
from vramscope.predict.limits import Limits
from vramscope.predict.parallel import NCCL_BYTES
from vramscope.predict.setup import ONE_GPU, Setup, arranged
from vramscope.recorders.virtual.recorder import VirtualRecorder
from vramscope.recording.recording import Recording, ScopeKind
from vramscope.workloads.comparing import passes_there_are
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions

_FAKE_LOG = logging.getLogger("torch._subclasses.fake_tensor")
"""Where the traceback of every error inside an operator goes, also of those that end as one line or are caught."""
_CHOOSES_FOREACH = "_default_to_fused_or_foreach"
_NAMES_CAPTURABLE = "_get_capturable_supported_devices"


@dataclass(frozen=True)
class GpuUse:
    """What a pass takes of a GPU at its highest; bytes. ``process_bytes`` is a range: least and most."""

    allocated_bytes: int
    reserved_bytes: int
    process_bytes: tuple[int, int]
    total_bytes: int

    @property
    def fragmentation_bytes(self) -> int:
        """Reserved, but not allocated, at the highest of each."""
        return self.reserved_bytes - self.allocated_bytes

    @property
    def fits(self) -> bool | None:
        """Whether the process fits; None where the range says both."""
        if self.process_bytes[1] <= self.total_bytes:
            return True
        return None if self.process_bytes[0] <= self.total_bytes else False


def gpu_use(recording: Recording, gpu: Gpu) -> GpuUse:
    """The highest figures over all steps, the cold one included: what it reserved is not given back."""
    scopes, events = recording.scopes, recording.events
    steps = scopes.start_ns[scopes.kind == ScopeKind.STEP]
    during = events.time_ns >= (steps.min() if len(steps) else 0)
    allocated = int(events.total[during].max(initial=0))
    reserved = int(events.reserved[during].max(initial=0))
    nccl = NCCL_BYTES if recording.workload.get("world_size") else (0, 0)
    least, most = (reserved + context + group for context, group in zip(CONTEXT_BYTES, nccl, strict=True))
    return GpuUse(allocated, reserved, (least, most), gpu.usable_bytes)


def predict_passes(
    target: str,
    options: WorkloadOptions,
    gpu: Gpu,
    passes: Sequence[str],
    settings: AllocatorSettings | None = None,
    progress: Callable[[str, str], None] = lambda name, text: None,
    setup: Setup = ONE_GPU,
) -> Mapping[str, Recording]:
    """The recording of each pass that there is, as the GPU would give it.

    Args:
        target: what to predict.
        options: how it runs; its device is where fake tensors live, ``cpu``.
        gpu: the GPU.
        passes: names of passes.
        settings: the allocator's.
        progress: told pass and what happens next.
        setup: what training trains, and over how many GPUs; inference takes place on one.

    Raises:
        TargetError, UsageError, WorkloadError: the workload cannot be built or run on fake tensors.
    """

    def predict(name: str) -> Recording:
        limits = Limits()
        recorder = VirtualRecorder({**cuda_rules(gpu), **limits.rules()}, keep_real=False, kernels=cuda_kernels(gpu))
        with _optimizers_as_on_cuda():
            virtual = _run(target, options, name, recorder, progress, setup)
        return on_cuda(virtual, gpu, settings).with_notes(*limits.notes())

    return passes_there_are(passes, predict)


def predict_on_cpu(
    target: str,
    options: WorkloadOptions,
    passes: Sequence[str],
    progress: Callable[[str, str], None] = lambda name, text: None,
    setup: Setup = ONE_GPU,
) -> Mapping[str, Recording]:
    """The recording of each pass as the CPU would give it; arguments and errors as `predict_passes`."""
    return passes_there_are(passes, lambda name: _run(target, options, name, VirtualRecorder(), progress, setup))


def _run(
    target: str,
    options: WorkloadOptions,
    name: str,
    recorder: VirtualRecorder,
    progress: Callable[[str, str], None],
    setup: Setup,
) -> Recording:
    """One pass on fake tensors; the setup is training's alone."""
    chosen = setup if name == PassName.TRAINING else ONE_GPU
    with arranged(chosen) as arrangement, _fake_failures_explained(recorder), _quiet_fakes():
        recording = run_pass(
            resolve(target),
            options,
            PassName(name),
            recorder,
            lambda text: progress(name, text),
            arrangement.changes,
        )
    return arrangement.finished(recording)


@contextmanager
def _quiet_fakes() -> Iterator[None]:
    """Hold back what torch says of fake tensors: that they have no address, which asking for tells us; every error."""
    with warnings.catch_warnings(), mock.patch.object(_FAKE_LOG, "disabled", True):
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield


@contextmanager
def _fake_failures_explained(recorder: VirtualRecorder) -> Iterator[None]:
    try:
        yield
    except (TargetError, WorkloadError, NotImplementedError, RuntimeError) as error:
        explained = explain(error, recorder.notes)
        if explained is not None:
            raise explained from error
        raise


@contextmanager
def _optimizers_as_on_cuda() -> Iterator[None]:
    """A step has CUDA's default form, foreach, and may be one to capture; torch asks on which device parameters lie."""
    with ExitStack() as stack:
        for name, stands_for in ((_CHOOSES_FOREACH, _foreach), (_NAMES_CAPTURABLE, _capturable_devices)):
            for module in _optimizer_modules(name):
                stack.enter_context(mock.patch.object(module, name, stands_for))
        yield


def _optimizer_modules(function: str) -> list[ModuleType]:
    """Where torch's optimizers have the function by name; ``torch.optim`` itself does not name its modules."""
    modules = [module for name, module in sys.modules.items() if name.startswith(torch.optim.__name__ + ".")]
    return [module for module in modules if function in vars(module)]


def _foreach(params: list[torch.Tensor], differentiable: bool, use_fused: bool = False) -> tuple[bool, bool]:
    """``_default_to_fused_or_foreach`` of torch/optim/optimizer.py, for parameters on CUDA."""
    return False, not differentiable


def _capturable_devices(supports_xla: bool = True) -> list[str]:
    """``_get_capturable_supported_devices`` there: what stands for CUDA here."""
    return ["cpu"]
