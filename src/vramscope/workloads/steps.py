"""The canonical inference and training step, phase by phase, and what to say when one fails.

A step keeps nothing: outputs and loss are its local variables and are dropped when it returns.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from vramscope.errors import VramscopeError, WorkloadError
from vramscope.recorders.failures import out_of_memory
from vramscope.recorders.stamps import loss_scope
from vramscope.recording.recording import PhaseName
from vramscope.workloads.forks import forks_ended
from vramscope.workloads.messages import describe_error
from vramscope.workloads.workload import AMP_DTYPES, CallArguments, PreparedWorkload

_ADVICE = {
    PhaseName.FORWARD: "check the inputs' names, shapes and dtypes against the model's forward",
    PhaseName.BACKWARD: "check that the loss depends on trainable parameters",
    PhaseName.OPTIMIZER: "check that this optimizer accepts the model's parameters and gradients",
}
_NO_KERNEL = "could not create a primitive"
"""How oneDNN begins when it cannot do on this processor what torch asks of it: an LSTM in 16 bits without AVX-512."""
_WITHOUT_IT = "oneDNN cannot do this on this processor: take float32, or set torch.backends.mkldnn.enabled = False"


class Phases(Protocol):
    """Told when a phase begins and ends; an optimizer with a closure opens forward and backward inside optimizer."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A context for the phase ``forward``, ``backward`` or ``optimizer``."""
        ...


class NoPhases:
    """Phases for a step that nobody watches."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()


def inference_step(prepared: PreparedWorkload, phases: Phases) -> None:
    """One forward in ``eval()`` under ``torch.inference_mode()``; its outputs live until after the phase.

    Raises:
        WorkloadError: the forward fails.
    """
    prepared.model.eval()
    with torch.inference_mode():
        with _phase(phases, PhaseName.FORWARD), _autocast(prepared):
            outputs = _call(prepared, prepared.inputs)
        del outputs


def training_step(
    prepared: PreparedWorkload,
    optimizers: Sequence[Optimizer],
    phases: Phases,
    on_loss: Callable[[float], None] | None = None,
) -> None:
    """Gradients cleared, forward and loss in ``train()`` mode, backward, optimizer; then outputs and loss are dropped.

    With ``prepared.accumulate`` above 1, forward and backward run that often, on the same inputs, each loss divided by
    it, before the optimizer steps.

    An optimizer whose ``step`` demands a closure, such as LBFGS, runs forward and backward itself, as often as it
    likes: all of them happen inside the optimizer phase, in phases of their own.

    Args:
        prepared: the workload.
        optimizers: made by ``prepared.build_optimizers()``, the same ones for every step.
        phases: told about each phase.
        on_loss: called with the loss's value when the step is over.

    Raises:
        WorkloadError: a phase fails; the message names it.
    """
    prepared.model.train()
    _clear_gradients(optimizers)
    if any(_demands_closure(optimizer) for optimizer in optimizers):
        loss = _closure_step(prepared, optimizers, phases)
    else:
        outputs, loss = _gradients(prepared, phases)
        with _phase(phases, PhaseName.OPTIMIZER):
            for optimizer in optimizers:
                optimizer.step()
        del outputs
    if on_loss is not None:
        on_loss(loss.item())


def _closure_step(prepared: PreparedWorkload, optimizers: Sequence[Optimizer], phases: Phases) -> Tensor:
    def closure() -> Tensor:
        _clear_gradients(optimizers)
        _, loss = _gradients(prepared, phases)
        return loss

    with _phase(phases, PhaseName.OPTIMIZER):
        # torch's annotation says float, its documentation and LBFGS say tensor
        losses: list[Any] = [optimizer.step(closure) for optimizer in optimizers]  # type: ignore[arg-type]
    first: Tensor = losses[0]
    return first


def _gradients(prepared: PreparedWorkload, phases: Phases) -> tuple[Any, Tensor]:
    """Forward and backward of every micro-batch, each dropped before the next; outputs and loss of the last one."""
    for _ in range(prepared.accumulate - 1):
        _micro_batch(prepared, phases)
    return _micro_batch(prepared, phases)


def _micro_batch(prepared: PreparedWorkload, phases: Phases) -> tuple[Any, Tensor]:
    outputs, loss = _forward(prepared, phases)
    with _phase(phases, PhaseName.BACKWARD):
        loss.backward()
    return outputs, loss


def _forward(prepared: PreparedWorkload, phases: Phases) -> tuple[Any, Tensor]:
    with _phase(phases, PhaseName.FORWARD), _autocast(prepared):
        outputs = _call(prepared, prepared.training_inputs)
        with loss_scope():
            loss = _loss(prepared, outputs)
            if prepared.accumulate > 1:  # so that the sum of the micro-batches' gradients is their mean
                loss = loss / prepared.accumulate
    return outputs, loss


def _call(prepared: PreparedWorkload, arguments: CallArguments) -> Any:
    positional, keywords = arguments
    return prepared.model(*positional, **keywords)


def _loss(prepared: PreparedWorkload, outputs: Any) -> Tensor:
    called = "loss(outputs, None), as there are no targets=" if prepared.targets is None else "loss(outputs, targets)"
    with _failure_of("the loss", f"it is called as {called}"):
        loss = prepared.loss(outputs, prepared.targets)
    return _check_loss(loss)


def _check_loss(loss: object) -> Tensor:
    if not isinstance(loss, Tensor):
        raise WorkloadError(f"the loss is a {type(loss).__name__}: it must be a tensor of one element")
    if loss.numel() != 1:
        raise WorkloadError(f"the loss has the shape {list(loss.shape)}: reduce it to one element, as .mean() does")
    return loss


def _clear_gradients(optimizers: Sequence[Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def _demands_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _autocast(prepared: PreparedWorkload) -> AbstractContextManager[object]:
    if prepared.amp is None:
        return nullcontext()
    return torch.autocast(torch.device(prepared.device).type, dtype=AMP_DTYPES[prepared.amp])


@contextmanager
def _phase(phases: Phases, name: PhaseName) -> Iterator[None]:
    with phases.phase(name), _failure_of(name, _ADVICE[name]), forks_ended():
        yield


@contextmanager
def _failure_of(what: str, advice: str) -> Iterator[None]:
    """A failure as one line that names what failed; the words of what failed inside it are kept."""
    try:
        yield
    except VramscopeError:
        raise
    except Exception as error:
        if out_of_memory(error) is not None:
            raise WorkloadError(f"{what} ran out of memory: {describe_error(error)}") from error
        known = _WITHOUT_IT if str(error).startswith(_NO_KERNEL) else advice
        raise WorkloadError(f"{what} failed: {describe_error(error)}; {known}") from error
