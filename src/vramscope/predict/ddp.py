"""One rank of DistributedDataParallel on fake tensors: torch's own reducer, and what it would read from other ranks.

Two things need real data: the check that all ranks have the same parameters, and the agreement on the order in which
buckets are rebuilt after the first backward pass. Both are known here: the check passes, and the order is the one in
which this rank's gradients came (``Reducer::rebuild_buckets``, torch/csrc/distributed/c10d/reducer.cpp).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch.distributed as dist
import torch.nn.parallel.distributed as torch_ddp
from torch import Tensor, nn
from torch._C import _distributed_c10d as c10d
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from vramscope.recorders.buckets import DDP_FORWARD, bucket_sizes

_READ_FROM_OTHERS = ("_verify_param_shape_across_processes", "_sync_module_states")


def distribute(
    model: nn.Module, bucket_cap_mb: int | None = None, bucket_view: bool = False
) -> DistributedDataParallel:
    """The model as this rank holds it: wrapped, its gradient buckets made, its gradients reduced in backward.

    Args:
        model: on fake tensors; a process group is there.
        bucket_cap_mb: MiB of a bucket at most; None is torch's default of 25, with a first bucket of 1.
        bucket_view: whether gradients are views of their buckets (``gradient_as_bucket_view``).
    """
    with _nothing_to_read(), record_function(DDP_FORWARD):  # where its buckets are looked for
        wrapped: Any = DistributedDataParallel(model, bucket_cap_mb=bucket_cap_mb, gradient_as_bucket_view=bucket_view)
    wrapped.reducer = _Reducer(wrapped)
    result: DistributedDataParallel = wrapped
    return result


def bucket_sizes_of(wrapped: Any) -> set[int]:
    """Bytes of the buckets of a model that `distribute` wrapped, those of its first step included."""
    reducer: _Reducer = wrapped.reducer
    return reducer.sizes


@contextmanager
def _nothing_to_read() -> Iterator[None]:
    with ExitStack() as stack:
        for name in _READ_FROM_OTHERS:
            stack.enter_context(mock.patch.object(torch_ddp, name, lambda *_, **__: None))
        yield


class _Reducer:
    """Torch's reducer in all but one call: rebuilding its buckets, which asks the other ranks for their order."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self._reducer: Any = wrapped.reducer
        self._parameters = [parameter for parameter in wrapped.module.parameters() if parameter.requires_grad]
        self._ready: list[int] = []
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(lambda _, index=index: self._ready.append(index))
            for index, parameter in enumerate(self._parameters)
        ]
        self.sizes = bucket_sizes([wrapped])
        """Bytes of every bucket that there has been."""
        _answer_at_once(self._reducer)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the reducer's own."""
        return getattr(self._reducer, name)

    def _rebuild_buckets(self) -> bool:
        """Buckets in the order in which gradients came, once, before the second forward pass.

        The old ones go before the new ones are made (``initialize_buckets`` clears them first). A logger holds a
        reducer too.
        """
        if not self._hooks or len(self._ready) < len(self._parameters):
            return False
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        wrapped, order = self._wrapped, list(dict.fromkeys(self._ready))
        buckets = _assignment(wrapped, [self._parameters[index] for index in order], order)
        self._reducer = wrapped.reducer = wrapped.logger = None  # both hold the old buckets
        with mock.patch.object(dist, "_compute_bucket_assignment_by_size", lambda *_, **__: buckets):
            wrapped._ddp_init_helper(*_construction(wrapped))
        self._reducer, wrapped.reducer = wrapped.reducer, self
        _answer_at_once(self._reducer)
        self.sizes |= bucket_sizes([wrapped])
        self._reducer.prepare_for_forward()
        return True


def _assignment(wrapped: Any, parameters: Sequence[Tensor], order: list[int]) -> tuple[list[list[int]], list[int]]:
    """Parameters by bucket, last bucket first: torch's helper turns the list around."""
    config = wrapped._bucket_config
    first, cap = config.first_bucket_bytes_cap, config.bucket_bytes_cap
    limits = [first, cap] if first < cap else [cap]
    buckets, sizes = c10d._compute_bucket_assignment_by_size(list(parameters), limits, [], order)
    return buckets[::-1], sizes[::-1]


def _construction(wrapped: Any) -> tuple[Any, ...]:
    parameters, sparse = wrapped._build_params_for_reducer()
    return parameters, sparse, wrapped._build_debug_param_to_name_mapping(parameters), False


def _answer_at_once(reducer: Any) -> None:
    """A hook in the place of the all-reduce, which a group of pretended ranks answers with nothing."""

    def answer(_: object, bucket: c10d.GradBucket) -> Future[Tensor]:
        future: Future[Tensor] = Future()
        future.set_result(bucket.buffer())
        return future

    c10d._register_comm_hook(reducer, None, answer)
