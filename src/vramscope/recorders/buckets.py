"""The buckets in which DistributedDataParallel collects gradients before it sends them.

They are made by C++ code and no Python object leads to them. What tells them: DDP says how large they are, and it makes
them inside its own forward, outside every module.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vramscope.recording.recording import NO_SCOPE, MarkKind, Marks, Recording, ScopeKind

DDP_FORWARD = "DistributedDataParallel.forward"  # torch/nn/parallel/distributed.py
_SIZES = ("bucket_sizes", "rebuilt_bucket_sizes")
_NAME = "gradient bucket"


def running_ddp() -> DistributedDataParallel | None:
    """The DDP model whose forward runs, be it watched or only what it wraps."""
    running: DistributedDataParallel | None = DistributedDataParallel._get_active_ddp_module()
    return running


def ddp_models(model: nn.Module) -> Iterator[DistributedDataParallel]:
    """The DDP models in a model, itself included."""
    return (module for module in model.modules() if isinstance(module, DistributedDataParallel))


def bucket_sizes(models: Iterable[DistributedDataParallel]) -> set[int]:
    """The sizes in bytes of the buckets of DDP models, as DDP itself logs them."""
    logged = (model._get_ddp_logging_data() for model in models)
    words = (word for data in logged for key in _SIZES for word in str(data.get(key, "")).replace(",", " ").split())
    return {int(word) for word in words if word.isdecimal()}


def with_buckets(recording: Recording, sizes: set[int]) -> Recording:
    """The recording with a mark on every gradient bucket that was made in it."""
    if not sizes or DDP_FORWARD not in recording.strings:
        return recording
    events = recording.events
    born = np.flatnonzero(np.isin(events.size, list(sizes)))
    rows = [row for row in born.tolist() if _is_in_ddp_itself(recording, int(events.scope[row]))]
    strings = recording.strings if _NAME in recording.strings else (*recording.strings, _NAME)
    name = strings.index(_NAME)
    table: list[tuple[int, ...]] = [
        (int(events.time_ns[r]), int(events.address[r]), MarkKind.COMMUNICATION, name, 0, int(events.size[r]), 0)
        for r in rows
    ]
    return replace(recording, strings=strings, marks=Marks.concatenate([recording.marks, Marks.from_rows(table)]))


def _is_in_ddp_itself(recording: Recording, scope: int) -> bool:
    """Whether a scope is inside DDP's forward with no module's forward in between."""
    scopes = recording.scopes
    while scope != NO_SCOPE:
        if scopes.kind[scope] in (ScopeKind.MODULE, ScopeKind.AUTOGRAD_NODE):
            return False
        if recording.strings[scopes.name[scope]] == DDP_FORWARD:
            return True
        scope = int(scopes.parent[scope])
    return False
