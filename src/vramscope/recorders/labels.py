"""Labels: what live objects say an address holds. Every storage is named once, by its first path."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vramscope.recording.recording import MarkKind

_CACHE = "past_key_values"
_PAGE = 4096
_SHARED_HEADER = 64
"""What torch keeps before the data of a file that processes share (map_alloc_alignment, ATen/MapAllocator.cpp)."""


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

    def without_storage(self) -> "Label":
        """The label to keep."""
        return self if self.storage is None else Label(*self[:-1])

    def renamed(self, names: Mapping[str, str]) -> "Label":
        """The label where parameters have got new ``names``, given by the old ones."""
        return self._replace(name=names.get(self.name, self.name), owner=names.get(self.owner, self.owner))


def plain_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that hold a tensor's memory: itself, the inner ones of a wrapper (quantized, DTensor), or none."""
    if is_lazy(tensor):
        return
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for inner in (getattr(tensor, name) for name in names):
            if isinstance(inner, Tensor):  # a DTensor's device mesh stands among them too
                yield from plain_tensors(inner)
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


def block_of(storage: torch.UntypedStorage) -> tuple[int, int]:
    """Address and bytes of the block that an allocator, or the mapping of a shared file, reports for a storage."""
    address, size = address_of(storage), storage.nbytes()
    if storage.device.type == "cpu" and address % _PAGE == _SHARED_HEADER and storage.is_shared():
        return address - _SHARED_HEADER, size + _SHARED_HEADER
    return address, size


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
        try:
            storage = part.untyped_storage()
        except NotImplementedError:  # a tensor without memory of its own, such as torch.func's wrappers
            continue
        address, size = block_of(storage)
        device = part.device
        if address and device.type != "meta":
            yield Label(kind, name, owner, address, size, device, storage)


def labels_to_keep(kind: MarkKind, name: str, tensor: Tensor, owner: str = "") -> Sequence[Label]:
    """As `label_tensor`, without storages. Every step waits for thousands of them, so usual ones go a short way."""
    if type(tensor) is Tensor:
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:  # sparse, or without memory of its own
            pass
        else:
            address = storage.data_ptr()
            if not address:  # empty, or on ``meta``
                return ()
            if address % _PAGE != _SHARED_HEADER:
                return (Label(kind, name, owner, address, storage.nbytes(), storage.device),)
    return [label.without_storage() for label in label_tensor(kind, name, tensor, owner)]


Labelling = Callable[[MarkKind, str, Tensor, str], Iterable[Label]]
"""`label_tensor`, or what stands for it."""


def nested_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a nest of mappings, sequences, sets and dataclasses, with a dotted name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = f"{name}.{key}" if name else str(key)
            if isinstance(item, Tensor):  # as nearly always in an optimizer's state
                yield inner, item
            else:
                yield from nested_tensors(item, inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from nested_tensors(item, f"{name}.{index}" if name else str(index))
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from nested_tensors(getattr(value, part.name), f"{name}.{part.name}" if name else part.name)


def label_model(model: nn.Module, prefix: str = "") -> Iterator[Label]:
    """Labels for a model's parameters and buffers, shared ones under their first path; paths begin with ``prefix``."""
    for name, parameter in model.named_parameters(prefix=prefix):
        yield from label_tensor(MarkKind.PARAMETER, name, parameter)
    for name, buffer in model.named_buffers(prefix=prefix):
        yield from label_tensor(MarkKind.BUFFER, name, buffer)


def label_optimizer_state(
    optimizer: Optimizer, name_of: Callable[[Tensor], str], label: Labelling = label_tensor
) -> Iterator[Label]:
    """Labels for what ``optimizer.state`` holds; ``name`` is the state's key, ``owner`` the parameter's name."""
    for parameter, state in optimizer.state.items():
        owner = name_of(parameter) if isinstance(parameter, Tensor) else ""
        for name, tensor in nested_tensors(state):
            yield from label(MarkKind.OPTIMIZER_STATE, name, tensor, owner)


def label_gradients(parameters: Iterable[tuple[str, Tensor]]) -> Iterator[Label]:
    """Labels for the ``.grad`` of every parameter that has one."""
    for name, parameter in parameters:
        if parameter.grad is not None:
            yield from label_tensor(MarkKind.GRADIENT, name, parameter.grad, name)


def label_kv_cache(output: Any) -> Iterator[Label]:
    """Labels for the keys and values that a model's output, or a call of it, hands on to the next token."""
    for name, tensor in kv_cache(output):
        yield from label_tensor(MarkKind.KV_CACHE, name, tensor)


def kv_cache(holder: Any) -> Iterator[tuple[str, Tensor]]:
    """The keys and values in a model's output, or among its arguments by keyword, in Hugging Face's form."""
    held = holder.get(_CACHE) if isinstance(holder, Mapping) else getattr(holder, _CACHE, None)
    return iter(()) if held is None else _cached_tensors(held, _CACHE)


def _cached_tensors(cache: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a cache: a nest, or an object of caches, layers, keys and values."""
    yield from nested_tensors(cache, name)
    for part in ("self_attention_cache", "cross_attention_cache"):
        inner = getattr(cache, part, None)
        if inner is not None:
            yield from _cached_tensors(inner, f"{name}.{part}")
    for index, layer in enumerate(getattr(cache, "layers", ())):
        parts = {part: getattr(layer, part, None) for part in ("keys", "values")}
        yield from nested_tensors(parts, f"{name}.{index}")
