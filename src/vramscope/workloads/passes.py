"""One pass of a workload under a recorder: build, one cold step, the steady steps."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from torch import nn
from torch.optim import Optimizer

from vramscope.errors import MemoryExhaustedError, VramscopeError, WorkloadError
from vramscope.recording.recording import PhaseName
from vramscope.workloads.forks import forks_ended
from vramscope.workloads.messages import describe_error
from vramscope.workloads.steps import inference_step, training_step
from vramscope.workloads.targets import Target
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

_CUT = "the recording ends where memory ran out"
Result = TypeVar("Result", covariant=True)


class PassOutOfMemoryError(MemoryExhaustedError):
    """A pass ran out of memory: ``error`` is the user's, ``result`` what the recorder saw until then."""

    def __init__(self, error: VramscopeError, result: Any) -> None:
        super().__init__(str(error))
        self.error = error
        self.result = result


class PassName(StrEnum):
    """The passes of the canonical comparison."""

    INFERENCE = "inference"
    TRAINING = "training"


def _unchanged(prepared: PreparedWorkload) -> PreparedWorkload:
    return prepared


@dataclass(frozen=True)
class Changes:
    """What is done to a workload besides what its options say.

    Attributes:
        built: to the model as it was built, before its optimizers are made.
        placed: when everything is where it runs.
    """

    built: Callable[[PreparedWorkload], PreparedWorkload] = _unchanged
    placed: Callable[[PreparedWorkload], PreparedWorkload] = _unchanged


class PassRecorder(Protocol[Result]):
    """What watches a pass: any recorder of `vramscope.recorders`."""

    def start(self) -> None:
        """Begin, before anything is built."""

    def watch(self, model: nn.Module) -> None:
        """Take note of the model that is about to run."""

    def mark_inputs(self, tensors: Any) -> None:
        """Take note of the workload's own tensors."""

    def step(self, index: int) -> AbstractContextManager[None]:
        """A context for step ``index``; 0 is the cold one."""
        ...

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A context for a phase."""
        ...

    def failed(self, error: BaseException) -> bool:
        """Take note of what ends the pass; whether memory ran out and what led there can be told."""
        ...

    def finish(self, workload: Mapping[str, Any] | None, notes: Sequence[str]) -> Result:
        """End, and give what was recorded."""
        ...

    def abandon(self) -> None:
        """End and keep nothing."""


def load_for(*names: str) -> None:
    """Load now what torch would load in the middle of such passes: 60 MiB of modules that are not the pass's."""
    if PassName.TRAINING in names:
        importlib.import_module("torch._dynamo")  # the first optimizer does


def run_pass(
    target: Target,
    options: WorkloadOptions,
    name: PassName,
    recorder: PassRecorder[Result],
    progress: Callable[[str], None],
    changes: Changes = Changes(),
) -> Result:
    """Run one pass from before the model is built until after the last step, and give what the recorder saw.

    Args:
        target: what to profile.
        options: how.
        name: inference or training.
        recorder: what watches.
        progress: told what happens next, in a few words.
        changes: of the workload.

    Raises:
        TargetError, UsageError, WorkloadError: the workload cannot be built or fails; the recorder has let go of it.
        PassOutOfMemoryError: memory ran out, and the recorder can tell what led there.
    """
    prepared: PreparedWorkload | None = None
    recorder.start()
    try:
        progress("building the model")
        with recorder.phase(PhaseName.BUILD):
            prepared, optimizers = _build(target, options, name, changes)
        recorder.watch(prepared.model)
        if isinstance(prepared.loss, nn.Module):
            recorder.watch(prepared.loss)
        recorder.mark_inputs(dict(prepared.input_tensors()))
        prepared = changes.placed(prepared)
        for index in range(options.steps + 1):
            progress(f"step {index + 1} of {options.steps + 1}")
            with recorder.step(index):
                _step(prepared, optimizers, recorder)
        facts = workload_facts(prepared, optimizers, options, name)
        return recorder.finish(facts, (*prepared.notes, *_remarks(prepared, optimizers)))
    except VramscopeError as error:
        if recorder.failed(error):
            facts = {} if prepared is None else workload_facts(prepared, (), options, name)
            raise PassOutOfMemoryError(error, recorder.finish({"pass": str(name), **facts}, (_CUT,))) from error
        recorder.abandon()
        raise
    except BaseException:
        recorder.abandon()
        raise


def _build(
    target: Target, options: WorkloadOptions, name: PassName, changes: Changes
) -> tuple[PreparedWorkload, Sequence[Optimizer]]:
    """The workload, and for training its optimizers; what torch refuses (memory, above all) is the user's to mend."""
    try:
        with forks_ended():
            prepared = changes.built(target.prepare(options, training=name is PassName.TRAINING))
            return prepared, prepared.build_optimizers() if name is PassName.TRAINING else ()
    except (RuntimeError, MemoryError) as error:
        raise WorkloadError(
            f"{target.target} cannot be built: {describe_error(error)}; try a smaller --batch"
        ) from error


def _step(prepared: PreparedWorkload, optimizers: Sequence[Optimizer], recorder: PassRecorder[Any]) -> None:
    if optimizers:
        training_step(prepared, optimizers, recorder)
    else:
        inference_step(prepared, recorder)


def _remarks(prepared: PreparedWorkload, optimizers: Sequence[Optimizer]) -> list[str]:
    """What the user should know of how the workload was run."""
    if not optimizers or not isinstance(prepared.loss, nn.Module):
        return []
    trained = {id(held) for optimizer in optimizers for group in optimizer.param_groups for held in group["params"]}
    if all(id(own) in trained for own in prepared.loss.parameters() if own.requires_grad):
        return []
    return ["the loss has parameters of its own, which no optimizer trains: give them to the Workload's optimizer"]


def workload_facts(
    prepared: PreparedWorkload, optimizers: Sequence[Optimizer], options: WorkloadOptions, name: PassName
) -> dict[str, Any]:
    """What a recording says of the workload it is of, in plain JSON types."""
    return {
        "name": prepared.name,
        "target": prepared.target,
        "pass": str(name),
        "device": prepared.device,
        "dtype": prepared.dtype,
        "amp": prepared.amp,
        "batch": prepared.batch,
        "accumulate": prepared.accumulate if name is PassName.TRAINING else 1,
        "seq": prepared.seq,
        "checkpoint": options.checkpoint,
        "optimizer": " and ".join(dict.fromkeys(type(item).__name__ for item in optimizers)) or prepared.optimizer,
        "parameter_count": prepared.parameter_count,
        "seed": prepared.seed,
    }
