"""One rank of FSDP2 on fake tensors: torch's own ``fully_shard``, over ranks that are pretended."""

from collections.abc import Iterator

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, mesh: DeviceMesh, reshard_after_forward: bool = True) -> tuple[str, ...]:
    """Shard every block of the model, then what is left of it, as torch's tutorial of FSDP2 does.

    Args:
        model: on fake tensors; its parameters become this rank's shards.
        mesh: of all ranks, made while tensors were still real.
        reshard_after_forward: whether gathered parameters are freed after forward and gathered again for backward, by
            torch's default in the blocks, but not in what is left of the model, which backward begins with.

    Returns:
        the paths of the blocks.
    """
    blocks = dict(blocks_of(model))
    chosen = None if reshard_after_forward else False
    for part in (*blocks.values(), model):
        fully_shard(part, mesh=mesh, reshard_after_forward=chosen)
    return tuple(blocks)


def blocks_of(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The repeated parts of a model: the members, with parameters, of its outermost lists of modules.

    A list of modules has no forward of its own, so that what it holds is called one by one, which sharding needs.
    """
    for name, child in model.named_children():
        place = f"{path}.{name}" if path else name
        if isinstance(model, nn.ModuleList):
            if next(child.parameters(), None) is not None:
                yield place, child
        else:
            yield from blocks_of(child, place)
