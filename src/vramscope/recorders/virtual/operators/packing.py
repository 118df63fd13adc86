"""Sequences of several lengths, packed: how many of them are still there at each step is known in numbers.

The kernels that work on packed sequences are loops over these numbers, which no fake tensor has: the tensor that holds
them is a real one.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from vramscope.recorders.virtual.mode import VirtualMode

aten = torch.ops.aten


def numbers_of(tensor: Tensor) -> list[int] | None:
    """The numbers in a real tensor, or in a fake one where they are known."""
    real = tensor.constant if isinstance(tensor, FakeTensor) else tensor
    if real is None:
        return None
    with _disable_current_modes():
        return [int(number) for number in real.flatten().tolist()]


def sequence_lengths(mode: VirtualMode, lengths: Tensor, longest: int) -> list[int]:
    """The lengths of sequences; where they are data, each is as long as the tensor that holds them all."""
    numbers = numbers_of(lengths)
    if numbers is None:
        mode.note("packed sequences: each is taken to be as long as what holds them, the most it can be")
    return [longest] * lengths.numel() if numbers is None else numbers


def pack(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """How many sequences are there at each step, int64, then parts of the steps, and all parts, [Σ lengths, ...].

    A part is of steps that equally many sequences have; those that do not lie together are copied on the way.

    Source: ``_pack_padded_sequence`` in aten/src/ATen/native/PackedSequence.cpp.
    """
    given, lengths, batch_first = args
    steps: Tensor = mode.describe(aten.transpose.int, given, 0, 1) if batch_first else given
    parts = _parts(sequence_lengths(mode, lengths, steps.shape[0]))
    with _disable_current_modes():
        counts = torch.tensor([count for begin, end, count in parts for _ in range(begin, end)], dtype=torch.int64)
    copies = deque(
        mode.run(aten.new_empty.default, steps, [(end - begin) * count, *steps.shape[2:]])
        for begin, end, count in parts
        if not _lies_together(mode, steps, begin, end, count)
    )
    total = sum((end - begin) * count for begin, end, count in parts)
    data = mode.run(aten.new_empty.default, steps, [total, *steps.shape[2:]])
    while copies:
        copies.popleft()
    return data, counts


def _lies_together(mode: VirtualMode, steps: Tensor, begin: int, end: int, count: int) -> bool:
    part = mode.describe(aten.slice.Tensor, steps, 0, begin, end)
    return bool(mode.describe(aten.slice.Tensor, part, 1, 0, count).is_contiguous())


def _parts(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Steps from, steps to, and how many sequences have them, where that number changes."""
    ends = sorted(set(lengths))
    return [
        (begin, end, sum(length >= end for length in lengths)) for begin, end in zip([0, *ends], ends, strict=False)
    ]


def real_numbers(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One of several real numbers, or each of them, as recurrent layers read them."""
    if isinstance(args[0], FakeTensor):
        return mode.run(func, *args, **kwargs)
    return mode.run_real(func, *args, **kwargs)


def padding(original: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    """``torch._VF._pad_packed_sequence``, which writes lengths into memory, for fake data.

    Source: ``_pad_packed_sequence`` in aten/src/ATen/native/PackedSequence.cpp.
    """

    def pad(data: Tensor, counts: Tensor, batch_first: bool, value: float, total: int) -> tuple[Tensor, Tensor]:
        if isinstance(counts, FakeTensor) or not isinstance(data, FakeTensor):
            return original(data, counts, batch_first, value, total)  # type: ignore[no-any-return]  # torch's own
        with _disable_current_modes():
            there = counts.tolist()
        shape = [total if total > 0 else len(there), there[0], *data.shape[1:]]
        padded = torch.full(shape, value, dtype=data.dtype, device=data.device)
        with _disable_current_modes():
            lengths = torch.tensor(_lengths(there))
        done = 0
        for begin, end, count in _parts(_lengths(there)):
            part = data[done : done + (end - begin) * count].view(end - begin, count, *data.shape[1:])
            padded[begin:end, :count].copy_(part)
            done += (end - begin) * count
        return padded.transpose(0, 1) if batch_first else padded, lengths

    return pad


def _lengths(there: Sequence[int]) -> list[int]:
    """How long each sequence is, by how many are still there at each step."""
    return [sum(count > place for count in there) for place in range(there[0])]
