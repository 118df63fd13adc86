"""What live objects hold, walked without any of vramscope's code: a second opinion on its labels."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from vramscope.ledger.categories import Category


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of every storage among tensors by its address: views and tied weights once, storages without memory not."""
    found = ((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()) for tensor in tensors)
    return {address: size for address, size in found if address}


def tensors_within(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested dictionaries and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_within(item)


def walk_live(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[Category, int]:
    """Bytes of unique storages in the live objects, found without any of vramscope's code.

    A storage that serves twice counts where the ledger's precedence puts it: parameters, buffers, state, gradients.
    """
    modules = list(model.modules())
    parameters = [p for module in modules for p in module._parameters.values() if p is not None]
    buffers = [b for module in modules for b in module._buffers.values() if b is not None]
    gradients = [p.grad for p in parameters if p.grad is not None]
    states = [tensor for optimizer in optimizers for tensor in tensors_within(list(optimizer.state.values()))]
    groups: dict[Category, list[Any]] = {
        Category.PARAMETERS: parameters,
        Category.BUFFERS: buffers,
        Category.OPTIMIZER_STATE: states,
        Category.GRADIENTS: gradients,
    }
    seen: set[int] = set()
    sums = {}
    for category, tensors in groups.items():
        fresh = {address: size for address, size in storages(tensors).items() if address not in seen}
        seen.update(fresh)
        sums[category] = sum(fresh.values())
    return sums
