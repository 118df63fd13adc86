"""Labels: what live objects say an address holds. Every storage is named once, by its first path."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vramscope.recording.recording import MarkKind


class Label(NamedTuple):
    """A storage at ``address`` on ``device`` holds what ``kind`` and ``name`` say; ``owner`` names a parameter or
    nothing."""

    kind: MarkKind
    name: str
    owner: str
    address: int
    size: int
    device: torch.device
    storage: torch.UntypedStorage | None = None
    """The memory itself, to watch it; whoever keeps a label drops this, or the memory would stay alive."""


def plain_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that hold a tensor's memory: itself, or the inner ones of a wrapper subclass (quantized, DTensor)."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from plain_tensors(getattr(tensor, name))
    elif tensor.layout is torch.strided:
        yield tensor
    else:
        yield from _sparse_parts(tensor)


def _sparse_parts(tensor: Tensor) -> Iterator[Tensor]:
    """The index and value tensors of a sparse tensor."""
    if tensor.layout is torch.sparse_coo:
        yield tensor._indices()
        yield tensor._values()
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())


def address_of(storage: torch.UntypedStorage) -> int:
    """Where a storage's memory lies, 0 without any; a fake tensor's storage goes by where its description lies.

    Fake tensors have storages on ``meta``: no memory, but one description each, which lives as long as they would.
    """
    if storage.device.type == "meta":
        return storage._cdata if storage.nbytes() else 0
    return storage.data_ptr()


def label_tensor(kind: MarkKind, name: str, tensor: Tensor, owner: str = "") -> Iterator[Label]:
    """Labels for the storages of one tensor; none for storages that hold no memory."""
    for part in plain_tensors(tensor):
        storage = part.untyped_storage()
        address = address_of(storage)
        if address:
            yield Label(kind, name, owner, address, storage.nbytes(), part.device, storage)


def nested_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a nest of mappings, sequences and objects such as model outputs, with a dotted name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from nested_tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from nested_tensors(item, f"{name}.{index}" if name else str(index))


def label_model(model: nn.Module) -> Iterator[Label]:
    """Labels for a model's parameters and buffers, shared ones under their first path."""
    for name, parameter in model.named_parameters():
        yield from label_tensor(MarkKind.PARAMETER, name, parameter)
    for name, buffer in model.named_buffers():
        yield from label_tensor(MarkKind.BUFFER, name, buffer)


def label_optimizer_state(optimizer: Optimizer, parameter_names: Mapping[int, str]) -> Iterator[Label]:
    """Labels for what ``optimizer.state`` holds; ``name`` is the state's key, ``owner`` the parameter's name."""
    for parameter, state in optimizer.state.items():
        owner = parameter_names.get(id(parameter), "") if isinstance(parameter, Tensor) else ""
        for name, tensor in nested_tensors(state):
            yield from label_tensor(MarkKind.OPTIMIZER_STATE, name, tensor, owner)


def label_gradients(parameters: Iterable[tuple[str, Tensor]]) -> Iterator[Label]:
    """Labels for the ``.grad`` of every parameter that has one."""
    for name, parameter in parameters:
        if parameter.grad is not None:
            yield from label_tensor(MarkKind.GRADIENT, name, parameter.grad, name)
