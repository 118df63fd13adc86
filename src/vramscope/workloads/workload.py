"""The three stages of a workload: what a user describes, what is asked for, and what is ready to run."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vramscope.errors import TargetError, UsageError
from vramscope.recorders.labels import nested_tensors
from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.messages import suggestion

Loss = Callable[[Any, Any], Tensor]
CallArguments = tuple[tuple[Any, ...], Mapping[str, Any]]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Workload:
    """A model with everything one training step of it needs: what a target's factory may return.

    Example:
        A file ``train.py`` with this factory is profiled by ``vramscope compare train.py:build --batch 32``::

            import torch
            from torch import nn
            from vramscope import Workload

            def build(batch: int = 8) -> Workload:
                return Workload(
                    model=nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)),
                    inputs=torch.randn(batch, 784),
                    targets=torch.randint(10, (batch,)),
                    loss=nn.functional.cross_entropy,
                    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
                )

    Attributes:
        model: the model, in any mode and on any device; it is moved and cast as the command asks.
        inputs: what ``model`` is called with: one tensor, a sequence of positional arguments, or a mapping of keyword
            arguments. An argument may be a nest of tensors.
        loss: called as ``loss(outputs, targets)``, returns a tensor of one element. Without it training uses
            ``outputs.loss``, else the mean of the first floating-point output.
        targets: what ``loss`` gets as its second argument: any nest of tensors.
        optimizer: called with the model, returns its optimizer. Without it training uses the command's ``--optimizer``.

    Raises:
        TargetError: a field has the wrong type.
    """

    model: nn.Module
    inputs: Tensor | Sequence[Any] | Mapping[str, Any]
    loss: Loss | None = None
    targets: Any = None
    optimizer: Callable[[nn.Module], Optimizer] | None = None

    def __post_init__(self) -> None:
        """Refuse fields of the wrong type while the user's factory is still the one to name."""
        if not isinstance(self.model, nn.Module):
            raise TargetError(f"Workload(model=…) must be an nn.Module, not {type(self.model).__name__}")
        _check_inputs(self.inputs)
        for name, value in (("loss", self.loss), ("optimizer", self.optimizer)):
            if value is not None and not callable(value):
                raise TargetError(f"Workload({name}=…) must be callable, not {type(value).__name__}")
        if self.targets is not None and self.loss is None:
            raise TargetError("Workload(targets=…) without loss=: nothing would use the targets")

    def call_arguments(self) -> CallArguments:
        """``inputs`` as positional and keyword arguments."""
        if isinstance(self.inputs, Tensor):
            return (self.inputs,), {}
        if isinstance(self.inputs, Mapping):
            return (), self.inputs
        return tuple(self.inputs), {}


def _check_inputs(inputs: object) -> None:
    if isinstance(inputs, Mapping):
        wrong = next((key for key in inputs if not isinstance(key, str)), None)
        if wrong is not None:
            raise TargetError(f"Workload(inputs=…): the keys must be argument names of forward, not {wrong!r}")
    elif isinstance(inputs, str | bytes) or not isinstance(inputs, Tensor | Sequence):
        raise TargetError(
            "Workload(inputs=…) must be a tensor, a sequence of arguments or a mapping of keyword arguments, "
            f"not {type(inputs).__name__}"
        )


@dataclass(frozen=True)
class WorkloadOptions:
    """What the command line asks of a workload; ``to_json`` carries it to child processes.

    A default means "as the target has it": ``float32`` leaves a factory's model in the dtype it was built in.

    Attributes:
        batch: samples in one step; None is the target's own default.
        seq: tokens per sample; None is the target's own default.
        inputs: tensors to make instead of the target's own.
        dtype: of parameters, buffers and floating-point inputs: float32, bfloat16 or float16.
        amp: dtype of ``torch.autocast`` around forward and loss, or None.
        checkpoint: recompute activations in backward instead of keeping them.
        accumulate: micro-batches of ``batch`` samples whose gradients add up before the optimizer steps.
        optimizer: see ``vramscope.workloads.optimizers.plan``; None is the Workload's own, or AdamW where it has none.
        foreach: the optimizer's ``foreach`` option; None is torch's default.
        fused: the optimizer's ``fused`` option; None is torch's default.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        steps: steady steps, after one cold step.
        seed: of the weights, the inputs and dropout.

    Raises:
        UsageError: a value that makes no sense.
    """

    batch: int | None = None
    seq: int | None = None
    inputs: tuple[InputSpec, ...] = ()
    dtype: str = "float32"
    amp: str | None = None
    checkpoint: bool = False
    accumulate: int = 1
    optimizer: str | None = None
    foreach: bool | None = None
    fused: bool | None = None
    device: str = "cpu"
    steps: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no sense before anything is built."""
        for name, value in (
            ("batch", self.batch),
            ("seq", self.seq),
            ("accumulate", self.accumulate),
            ("steps", self.steps),
        ):
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}")
        _check_choice("dtype", self.dtype, DTYPES)
        if self.amp is not None:
            _check_choice("amp", self.amp, AMP_DTYPES)
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise UsageError(f"--device {self.device!r} is no device: give cpu, cuda or cuda:N") from error

    @property
    def torch_device(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.device)

    @property
    def floating_dtype(self) -> torch.dtype | None:
        """The dtype to cast to, or None to leave everything as the target made it."""
        return None if self.dtype == "float32" else DTYPES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """Only what JSON knows; ``from_json`` reads it back to an equal object."""
        return {**dataclasses.asdict(self), "inputs": [str(spec) for spec in self.inputs]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "WorkloadOptions":
        """The options that ``to_json`` wrote.

        Raises:
            UsageError: an unknown key, or a value that makes no sense.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"a workload has no option {unknown[0]!r}{suggestion(unknown[0], known)}")
        specs = tuple(InputSpec.parse(text) for text in values.get("inputs", ()))
        return cls(**{**values, "inputs": specs})


def _check_choice(option: str, value: str, choices: Mapping[str, Any]) -> None:
    if value not in choices:
        raise UsageError(f"--{option} {value!r} is not supported: choose {_or(choices)}")


def _or(choices: Iterable[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}"


@dataclass(frozen=True, eq=False)
class PreparedWorkload:
    """A workload built and ready to step: model and inputs on the device, optimizers not made yet.

    Attributes:
        name: short, for tables.
        target: as the user wrote it.
        model: on the device, in the dtype asked for.
        inputs: arguments of ``model`` in inference.
        training_inputs: arguments of ``model`` in training: the same tensors, and labels where the model takes them.
        loss: called as ``loss(outputs, targets)``.
        targets: any nest of tensors; None where the labels are inputs.
        make_optimizers: called with the model; ``build_optimizers`` does.
        optimizer: its name, for tables.
        batch: samples in one step, None where the inputs do not say.
        seq: tokens per sample, None where there are none.
        dtype: that most of the parameters are held in.
        device: that model and inputs are on.
        amp: dtype of autocast, or None.
        seed: of weights, inputs and dropout.
        accumulate: micro-batches of ``batch`` samples in one training step.
        notes: remarks the user should read.
    """

    name: str
    target: str
    model: nn.Module
    inputs: CallArguments
    training_inputs: CallArguments
    loss: Loss
    targets: Any
    make_optimizers: Callable[[nn.Module], tuple[Optimizer, ...]]
    optimizer: str
    batch: int | None
    seq: int | None
    dtype: str
    device: str
    amp: str | None
    seed: int
    accumulate: int = 1
    notes: tuple[str, ...] = field(default=())

    def build_optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers of a training pass; each call makes new ones.

        Raises:
            UsageError: the optimizer refuses its settings or the model's parameters.
            TargetError: the Workload's own optimizer factory fails.
        """
        return self.make_optimizers(self.model)

    @property
    def parameter_count(self) -> int:
        """Elements of all parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in unique_parameters(self.model))

    def input_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of inputs, labels and targets once, under the name ``forward`` has for it; names are unique."""
        seen: dict[int, str] = {}
        for name, tensor in self._named_input_tensors():
            if id(tensor) not in seen:
                # a forward may have parameters named like the loss's targets
                seen[id(tensor)] = f"loss.{name}" if name in seen.values() else name
                yield seen[id(tensor)], tensor

    def _named_input_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for arguments in (self.inputs, self.training_inputs):
            yield from nested_tensors(_by_parameter(self.model, arguments))
        yield from nested_tensors(self.targets, "targets")


def unique_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters by the memory they view: two Parameter objects over the same elements count once."""
    seen: set[tuple[int, int, int]] = set()
    for parameter in model.parameters():
        view = (parameter.untyped_storage()._cdata, int(parameter.storage_offset()), parameter.numel())
        if view not in seen:
            seen.add(view)
            yield parameter


def _by_parameter(model: nn.Module, arguments: CallArguments) -> dict[str, Any]:
    """Arguments under the names of forward's parameters, numbered where it has no name for one."""
    positional, keywords = arguments
    parameters = inspect.signature(model.forward).parameters.values()
    names = [item.name for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    names += [f"input{index}" for index in range(len(names), len(positional))]
    return {**dict(zip(names, positional, strict=False)), **keywords}
