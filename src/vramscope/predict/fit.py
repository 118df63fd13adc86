"""The largest batch that fits, found by predicting batches, and what each remedy would change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vramscope.allocator.settings import AllocatorSettings, parse_settings
from vramscope.errors import VramscopeError
from vramscope.predict.estimate import predict_use
from vramscope.predict.gpus import Gpu
from vramscope.workloads.workload import WorkloadOptions

Predict = Callable[[int], int]
"""Bytes that the process needs at most for a batch."""
_MOST_BATCH = 1 << 20
EXPANDABLE = "expandable_segments:True"


@dataclass(frozen=True)
class Remedy:
    """A change and what the process would need with it, bytes; None where it cannot be predicted, and ``why``."""

    name: str
    peak_bytes: int | None
    why: str = ""


@dataclass(frozen=True)
class Fit:
    """The largest batch whose process fits at most ``limit_bytes``, 0 if none does; bytes.

    ``peak_bytes`` is that batch's need, or that of batch 1 where none fits; ``next_bytes`` the need of the next batch,
    which does not fit.
    """

    batch: int
    peak_bytes: int
    next_bytes: int
    limit_bytes: int
    remedies: tuple[Remedy, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether any batch fits."""
        return self.batch > 0


def largest_batch(predict: Predict, limit_bytes: int, most: int = _MOST_BATCH) -> Fit:
    """The largest batch whose prediction is within the limit while that of the next one is not.

    Follows the line through what is known already, and halves the gap where the line misleads; every batch is
    predicted at most once, and the answer rests on two predictions, never on the line.
    """
    known: dict[int, int] = {}

    def need(batch: int) -> int:
        if batch not in known:
            known[batch] = predict(batch)
        return known[batch]

    if need(1) > limit_bytes:
        return Fit(0, need(1), need(1), limit_bytes)
    low, high = 1, 2
    while need(high) <= limit_bytes:
        if high >= most:
            return Fit(high, need(high), need(high), limit_bytes)
        low, high = high, min(max(2 * high, _guess(low, high, need, limit_bytes)), most)
    while high - low > 1:
        middle = _guess(low, high, need, limit_bytes)
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if need(middle) <= limit_bytes else (low, middle)
        if high - low > 2:  # the line converges from one side: a half step bounds the other
            half = (low + high) // 2
            low, high = (half, high) if need(half) <= limit_bytes else (low, half)
    return Fit(low, need(low), need(high), limit_bytes)


def _guess(low: int, high: int, need: Predict, limit_bytes: int) -> int:
    slope = max((need(high) - need(low)) / (high - low), 1)
    return low + int((limit_bytes - need(low)) / slope)


def fit(
    target: str,
    options: WorkloadOptions,
    gpu: Gpu,
    name: str,
    limit_bytes: int,
    settings: AllocatorSettings | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Fit:
    """The largest batch of a pass on a GPU, and what remedies would do for the next one.

    Args:
        target: what to predict.
        options: how it runs; the batch is not read.
        gpu: the GPU.
        name: the pass, ``training`` or ``inference``.
        limit_bytes: what the process may take.
        settings: the allocator's.
        progress: told what is predicted next.

    Raises:
        VramscopeError: the workload cannot be predicted.
    """

    def need(batch: int, changed: Mapping[str, Any] | None = None, text: str = "") -> int:
        progress(f"batch {batch} {text}".strip())
        chosen = replace(options, batch=batch, **(changed or {}))
        own_settings = parse_settings(EXPANDABLE) if text == EXPANDABLE else settings
        return predict_use(target, chosen, gpu, name, own_settings).process_bytes[1]

    found = largest_batch(need, limit_bytes)
    return replace(found, remedies=tuple(_remedies(need, found.batch + 1, name, options)))


def _remedies(
    need: Callable[[int, Mapping[str, Any], str], int], batch: int, name: str, options: WorkloadOptions
) -> list[Remedy]:
    """Each remedy by itself, for the first batch that does not fit."""
    changes: dict[str, dict[str, Any]] = {EXPANDABLE: {}}
    if options.amp is None and options.dtype == "float32":
        changes["amp bfloat16"] = {"amp": "bfloat16"}
    if name == "training":
        changes |= {"checkpoint": {"checkpoint": True}, "optimizer sgd": {"optimizer": "sgd"}, "fused": {"fused": True}}
    return [_remedy(need, batch, text, changed) for text, changed in changes.items()]


def _remedy(
    need: Callable[[int, Mapping[str, Any], str], int], batch: int, text: str, changed: Mapping[str, Any]
) -> Remedy:
    try:
        return Remedy(text, need(batch, changed, text))
    except VramscopeError as error:
        return Remedy(text, None, str(error))
