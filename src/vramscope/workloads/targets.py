"""Targets: from what the user types to a workload that is ready to step."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from vramscope.errors import TargetError, UsageError
from vramscope.workloads import hugging_face, image_libraries, optimizers
from vramscope.workloads.built_ins import BuiltInSource
from vramscope.workloads.draft import Draft, Source
from vramscope.workloads.factories import find_factory
from vramscope.workloads.forks import forks_ended
from vramscope.workloads.messages import describe_error, suggestion, summarize_error
from vramscope.workloads.models import BUILT_INS
from vramscope.workloads.nests import map_tensors
from vramscope.workloads.workload import CallArguments, PreparedWorkload, WorkloadOptions, unique_parameters

_DEFAULT_OPTIMIZER = "adamw"
_NUMPY_SEEDS = 1 << 32


@dataclass(frozen=True)
class Target:
    """Something to profile, found but not built.

    Attributes:
        target: as the user wrote it.
        source: where its model comes from.
    """

    target: str
    source: Source

    @property
    def name(self) -> str:
        """Short, for tables."""
        return self.source.name

    def prepare(self, options: WorkloadOptions, training: bool = True) -> PreparedWorkload:
        """Build the model and its inputs, in the dtype and on the device asked for.

        The global generators of torch, Python and numpy are seeded before the model is built and again at the end, so
        that weights, inputs, dropout and what a model drops by numbers of Python's are the same for the same options.

        Args:
            options: what the command asked for.
            training: False leaves out what only a training step holds: labels and targets.

        Raises:
            TargetError: the target cannot be imported, built or moved to the device.
            UsageError: an option that makes no sense for this target.
        """
        _check_device(options)
        _seed_generators(options.seed)
        draft = self.source.draft(options)
        prepared = _finish(self, draft, options, training)
        _seed_generators(options.seed)
        return prepared


def _seed_generators(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # the global generator, as models use it; it takes no larger seeds


_LIBRARIES: dict[str, Callable[[str], Source]] = {
    "hf": hugging_face.find_model,
    "timm": image_libraries.find_timm,
    "torchvision": image_libraries.find_torchvision,
}


def resolve(target: str) -> Target:
    """The target that ``target`` names; checks what can be checked without importing or building anything.

    Args:
        target: a built-in's name, ``package.module:factory``, ``path/to/file.py:factory``, ``hf:NAME-OR-FOLDER``,
            ``timm:NAME`` or ``torchvision:NAME``.

    Raises:
        TargetError: nothing of that name, or its library is not installed.
    """
    if target in BUILT_INS:
        return Target(target, BuiltInSource(BUILT_INS[target]))
    library, _, name = target.partition(":")
    if library in _LIBRARIES:
        return Target(target, _LIBRARIES[library](name))
    if ":" in target or target.endswith(".py"):
        return Target(target, find_factory(target))
    raise TargetError(
        f"unknown target {target!r}{suggestion(target, BUILT_INS)}: give one of {', '.join(BUILT_INS)}, "
        "package.module:factory, path/to/file.py:factory, or hf:, timm: or torchvision: and a name"
    )


def _finish(target: Target, draft: Draft, options: WorkloadOptions, training: bool) -> PreparedWorkload:
    model = _place_model(draft.model, options)
    move = _mover(options)
    inputs: CallArguments = map_tensors(draft.inputs, move)
    positional, keywords = inputs
    labels = map_tensors(draft.labels, move) if training else {}
    chosen = _choose_optimizer(draft, options)
    return PreparedWorkload(
        name=target.name,
        target=target.target,
        model=model,
        inputs=inputs,
        training_inputs=(positional, {**keywords, **labels}),
        loss=draft.loss,
        targets=map_tensors(draft.targets, move) if training else None,
        make_optimizers=chosen.make,
        optimizer=chosen.name,
        batch=draft.batch,
        seq=draft.seq,
        dtype=_main_dtype(model, options),
        device=options.device,
        amp=options.amp,
        seed=options.seed,
        accumulate=options.accumulate,
        notes=_notes(model, draft, options) + (_training_notes(model, draft, chosen) if training else ()),
    )


def _check_device(options: WorkloadOptions) -> None:
    if options.torch_device.type == "cpu":
        return
    try:
        torch.empty(0, device=options.torch_device)
    except Exception as error:  # AssertionError, RuntimeError or ImportError, by build and driver
        raise UsageError(f"--device {options.device} cannot be used here: {summarize_error(error)}") from error


def _place_model(model: nn.Module, options: WorkloadOptions) -> nn.Module:
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise TargetError(
            f"{type(model).__name__} has lazy parameters without a shape: run its forward once in the factory"
        )
    if _is_placed(model, options):
        return model
    try:
        return model.to(device=options.torch_device, dtype=options.floating_dtype)
    except Exception as error:
        raise TargetError(
            f"{type(model).__name__} cannot be moved to {options.device} as {options.dtype}: {summarize_error(error)}"
        ) from error


def _is_placed(model: nn.Module, options: WorkloadOptions) -> bool:
    """Whether nothing is left to move or cast; ``Module.to`` would rewrap every parameter all the same."""
    device, dtype = options.torch_device, options.floating_dtype
    held = (*model.parameters(), *model.buffers())
    cast = dtype is not None and any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in held)
    return not cast and all(tensor.device == device for tensor in held)


def _mover(options: WorkloadOptions) -> Callable[[Tensor], Tensor]:
    """Moves and casts a tensor; one that is passed in twice comes out as one, as it went in."""
    moved: dict[int, Tensor] = {}

    def move(tensor: Tensor) -> Tensor:
        if id(tensor) not in moved:
            dtype = options.floating_dtype if tensor.is_floating_point() else None
            moved[id(tensor)] = tensor.to(device=options.torch_device, dtype=dtype)
        return moved[id(tensor)]

    return move


@dataclass(frozen=True)
class _ChosenOptimizer:
    name: str
    make: Callable[[nn.Module], tuple[Optimizer, ...]]
    notes: Callable[[nn.Module], tuple[str, ...]]


def _choose_optimizer(draft: Draft, options: WorkloadOptions) -> _ChosenOptimizer:
    plan = optimizers.plan(options.optimizer or _DEFAULT_OPTIMIZER, options.foreach, options.fused)
    if draft.optimizer is None:
        return _ChosenOptimizer(plan.name, plan.build, plan.notes)
    if options.optimizer is not None:
        note = f"--optimizer {options.optimizer} replaces the Workload's own optimizer"
        return _ChosenOptimizer(plan.name, plan.build, lambda model: (note, *plan.notes(model)))
    if options.foreach is not None or options.fused is not None:
        raise UsageError("--foreach and --fused do not reach a Workload's own optimizer: give --optimizer too")
    return _ChosenOptimizer("the Workload's own", _own_optimizer(draft.optimizer), lambda _: ())


def _own_optimizer(factory: Callable[[nn.Module], Any]) -> Callable[[nn.Module], tuple[Optimizer, ...]]:
    def make(model: nn.Module) -> tuple[Optimizer, ...]:
        try:
            with forks_ended():
                made = factory(model)
        except Exception as error:
            raise TargetError(f"the Workload's optimizer factory failed: {describe_error(error)}") from error
        if not isinstance(made, Optimizer):
            raise TargetError(
                f"the Workload's optimizer factory returned {type(made).__name__}: it must return a torch Optimizer"
            )
        return (made,)

    return make


def _main_dtype(model: nn.Module, options: WorkloadOptions) -> str:
    """The dtype of most parameter elements, which a factory may have chosen itself."""
    counts: Counter[torch.dtype] = Counter()
    for parameter in unique_parameters(model):
        if parameter.is_floating_point():
            counts[parameter.dtype] += parameter.numel()
    return str(counts.most_common(1)[0][0]).removeprefix("torch.") if counts else options.dtype


def _notes(model: nn.Module, draft: Draft, options: WorkloadOptions) -> tuple[str, ...]:
    dtype = _main_dtype(model, options)
    if dtype == options.dtype:
        return draft.notes
    return (*draft.notes, f"the model is {dtype}, as the target built it: --dtype {options.dtype} casts nothing")


def _training_notes(model: nn.Module, draft: Draft, chosen: _ChosenOptimizer) -> tuple[str, ...]:
    return (*draft.training_notes, *chosen.notes(model))
