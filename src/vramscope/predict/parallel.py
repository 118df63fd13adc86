"""Training over several GPUs, on paper: one rank, with a process group whose collectives move nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from vramscope.errors import UsageError
from vramscope.predict.ddp import bucket_sizes_of, distribute
from vramscope.predict.fsdp import shard
from vramscope.recorders.buckets import with_buckets
from vramscope.recording.recording import Recording
from vramscope.workloads.workload import PreparedWorkload

NCCL_BYTES = (544 * 10**6, 4 * 10**9)
"""NCCL's own memory for one group, outside the allocator: least seen on A100, most seen on 8 H100. It depends on the
topology, the number of channels and NCCL_BUFFSIZE, none of which is known here."""
NOT_MODELLED = (
    f"collectives are pretended: NCCL's own memory ({NCCL_BYTES[0] / 1e9:.1f} to {NCCL_BYTES[1] / 1e9:.0f} GB, outside "
    "the allocator) is a range in the process's figure, and side streams' separate pools, which can raise reserved "
    "memory, are not modelled"
)


class Parallel(StrEnum):
    """How the ranks share a training step."""

    DDP = "ddp"
    FSDP2 = "fsdp2"


@dataclass(frozen=True)
class Ranks:
    """Several GPUs that train one model; every rank takes the batch asked for.

    Attributes:
        kind: what is shared.
        world_size: how many GPUs.
        bucket_cap_mb: of DDP, MiB of a gradient bucket at most; None is torch's default.
        bucket_view: of DDP, whether gradients are views of their buckets.
        reshard_after_forward: of FSDP2, whether parameters are gathered anew for backward.

    Raises:
        UsageError: an option of the other kind, or fewer than two ranks.
    """

    kind: Parallel
    world_size: int
    bucket_cap_mb: int | None = None
    bucket_view: bool = False
    reshard_after_forward: bool = True

    def __post_init__(self) -> None:
        """Refuse what would do nothing."""
        if self.world_size < 2:
            raise UsageError(f"--world-size {self.world_size}: {self.kind} needs at least 2 GPUs")
        if self.kind is Parallel.FSDP2 and (self.bucket_cap_mb is not None or self.bucket_view):
            raise UsageError("--bucket-cap-mb and --bucket-view belong to --parallel ddp: leave them out")
        if self.kind is Parallel.DDP and not self.reshard_after_forward:
            raise UsageError("--no-reshard belongs to --parallel fsdp2: leave it out")


@dataclass
class Rank:
    """The first of the ranks while it is predicted; changes a workload as that rank would hold it."""

    ranks: Ranks
    mesh: DeviceMesh
    _model: DistributedDataParallel | None = None

    def built(self, prepared: PreparedWorkload) -> PreparedWorkload:
        """After the model is built, before its optimizers are: FSDP2 shards it, as large models are, on the host."""
        if self.ranks.kind is Parallel.FSDP2:
            blocks = shard(prepared.model, self.mesh, self.ranks.reshard_after_forward)
            prepared = replace(prepared, notes=(*prepared.notes, _what_is_sharded(blocks)))
        return replace(prepared, notes=(*prepared.notes, NOT_MODELLED))

    def placed(self, prepared: PreparedWorkload) -> PreparedWorkload:
        """When the model is on its GPU: DDP wraps it."""
        if self.ranks.kind is not Parallel.DDP:
            return prepared
        self._model = distribute(prepared.model, self.ranks.bucket_cap_mb, self.ranks.bucket_view)
        return replace(prepared, model=self._model)

    def finished(self, recording: Recording) -> Recording:
        """The recording with what only the rank knows: its buckets, and who it is."""
        if self._model is not None:
            recording = with_buckets(recording, bucket_sizes_of(self._model))
        facts = {"parallel": str(self.ranks.kind), "world_size": self.ranks.world_size}
        return replace(recording, workload={**recording.workload, **facts})


def _what_is_sharded(blocks: tuple[str, ...]) -> str:
    if not blocks:
        return "FSDP2 shards the model as one: it has no list of blocks, so that all parameters are gathered at once"
    return f"FSDP2 shards {len(blocks)} blocks ({blocks[0]} to {blocks[-1]}) and the rest of the model"


@contextmanager
def pretended(ranks: Ranks) -> Iterator[Rank]:
    """A process group of so many ranks, of which this process is the first and the others never answer.

    Raises:
        UsageError: this process has a process group already.
    """
    if dist.is_initialized():
        raise UsageError("this process belongs to a process group already: predict from one of its own")
    dist.init_process_group("fake", rank=0, world_size=ranks.world_size, store=FakeStore())
    try:
        yield Rank(ranks, init_device_mesh("cpu", (ranks.world_size,)))
    finally:
        dist.destroy_process_group()
