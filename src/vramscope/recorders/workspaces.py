"""Library workspaces inside the allocator: told from tensors by their size and by how they are made."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from vramscope.recorders.conversion import WORKSPACE
from vramscope.recording.recording import UNKNOWN, MarkKind, Marks, Recording, ScopeKind

_CONFIGURED = re.compile(r":(\d+):(\d+)")
_KIB = 1024
_DEFAULT_BYTES = (4096 * 2 + 16 * 8) * _KIB
_LARGE_BYTES = 32 * _KIB**2
_LARGE_ON = (9, 10, 12)
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmv", "aten::mv", "aten::dot")


def workspace_sizes(devices: Mapping[str, int]) -> dict[str, int]:
    """What cuBLAS's workspace takes on each GPU, by device name.

    Source: ``parseChosenWorkspaceSize`` of aten/src/ATen/cuda/CublasHandlePool.cpp: CUBLAS_WORKSPACE_CONFIG lists
    ``:SIZE:COUNT`` with sizes in KiB; else ``:4096:2:16:8``, and 32 MiB for compute capability 9, 10 and 12.
    """
    given = _CONFIGURED.findall(os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if given:
        return dict.fromkeys(devices, sum(int(size) * int(count) * _KIB for size, count in given))
    return {
        name: _LARGE_BYTES if torch.cuda.get_device_capability(index)[0] in _LARGE_ON else _DEFAULT_BYTES
        for name, index in devices.items()
    }


def with_workspaces(recording: Recording, sizes: Mapping[str, int]) -> Recording:
    """The recording with marks for the blocks that can only be workspaces of cuBLAS.

    A matrix product allocates its result first; what it allocates afterwards, in exactly a workspace's size, and does
    not free itself, is the workspace of its thread and stream. What was asked for is known from the allocator's history
    and, of older blocks, from its snapshot; without them the block's own size stands for it.

    Args:
        recording: of the profiler's events.
        sizes: of `workspace_sizes`.
    """
    recording = replace(recording, strings=tuple(dict.fromkeys((*recording.strings, WORKSPACE))))
    marks = [recording.marks]
    for number, device in enumerate(recording.devices):
        wanted = sizes.get(device.name, 0)
        if wanted == _DEFAULT_BYTES:
            marks.append(_older(recording, number))
        if wanted:
            marks.append(_made(recording, number, wanted))
    return replace(recording, marks=Marks.concatenate(marks))


def _older(recording: Recording, device: int) -> Marks:
    """Blocks from before the recording that nothing else names: the default size is so odd that it speaks for itself.

    32 MiB does not: many a tensor has it.
    """
    seeds, marks = recording.seeds, recording.marks
    named = marks.address[marks.device == device]
    found = (seeds.device == device) & (seeds.requested == _DEFAULT_BYTES) & ~np.isin(seeds.address, named)
    name = recording.strings.index(WORKSPACE)
    rows = [
        (0, address, int(MarkKind.LIBRARY_WORKSPACE), name, 0, size, device)
        for address, size in zip(seeds.address[found].tolist(), seeds.size[found].tolist(), strict=True)
    ]
    return Marks.from_rows(rows)


def _made(recording: Recording, device: int, wanted: int) -> Marks:
    """Blocks that a matrix product made after its result, and kept."""
    events = recording.events
    product = _products(recording)[events.scope]
    mine = (events.device == device) & (product >= 0)
    rows: list[tuple[int, ...]] = []
    name = recording.strings.index(WORKSPACE)
    seen: set[int] = set()
    freed = {(int(product[row]), int(events.address[row])) for row in np.flatnonzero(mine & (events.size < 0))}
    asked = np.where(events.requested == UNKNOWN, events.size, events.requested)
    for row in np.flatnonzero(mine & (events.size > 0)).tolist():
        scope, address = int(product[row]), int(events.address[row])
        if scope in seen and asked[row] == wanted and (scope, address) not in freed:
            moment, size = int(events.time_ns[row]), int(events.size[row])
            rows.append((moment, address, MarkKind.LIBRARY_WORKSPACE, name, 0, size, device))
        seen.add(scope)
    return Marks.from_rows(rows)


def _products(recording: Recording) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """For each scope the matrix product that it is or lies in, -1 for none; the last place is "no scope"."""
    scopes = recording.scopes
    found = np.full(len(scopes) + 1, -1, dtype=np.int64)
    names = {number for number, text in enumerate(recording.strings) if text in _PRODUCTS}
    columns = zip(scopes.parent.tolist(), scopes.kind.tolist(), scopes.name.tolist(), strict=True)
    for row, (parent, kind, name) in enumerate(columns):  # parents stand before their children
        is_product = kind == ScopeKind.OPERATOR and name in names
        found[row] = row if is_product else found[parent]
    return found
