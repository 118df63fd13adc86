"""Library workspaces inside the allocator: told from tensors by their size and by how they are made."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vramscope.recorders.conversion import WORKSPACE
from vramscope.recorders.torch_version import TORCH
from vramscope.recording.recording import (
    NO_SCOPE,
    UNKNOWN,
    Events,
    Integers,
    MarkKind,
    Marks,
    Recording,
    ScopeKind,
    Seeds,
)

_CONFIGURED = re.compile(r":(\d+):(\d+)")
_KIB = 1024
_DEFAULT_BYTES = (4096 * 2 + 16 * 8) * _KIB
_LARGE_BYTES = 32 * _KIB**2
_LARGE_ON = (9, 10, 12)
LT_WORKSPACE_BYTES = 1024 * _KIB
LT_SHARES_SINCE = (2, 12)
"""The first torch whose cuBLASLt uses cuBLAS's workspace unless told otherwise."""
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmv", "aten::mv", "aten::dot")
_BIASED_PRODUCTS = ("aten::addmm", "aten::_addmm_activation")


@dataclass(frozen=True)
class Workspace:
    """A library's workspace.

    Attributes:
        size: its bytes.
        products: the operators of which some need one for each thread and stream.
        is_certain: whether each of them needs one.
    """

    size: int
    products: tuple[str, ...]
    is_certain: bool = True


def workspaces_of(devices: Mapping[str, int]) -> dict[str, tuple[Workspace, ...]]:
    """The workspaces of cuBLAS and cuBLASLt on each GPU (index by name), by its name.

    Source: ``parseChosenWorkspaceSize`` of aten/src/ATen/cuda/CublasHandlePool.cpp: CUBLAS_WORKSPACE_CONFIG lists
    ``:SIZE:COUNT`` with sizes in KiB; else ``:4096:2:16:8``, and 32 MiB for compute capability 9, 10 and 12.
    ``getCUDABlasLtWorkspaceSize`` there: cuBLASLt, which adds a linear layer's bias, shares cuBLAS's or has its own.
    """
    of_lt = () if _lt_shares() else (Workspace(_lt_bytes(), _BIASED_PRODUCTS, is_certain=False),)
    given = _CONFIGURED.findall(os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    configured = sum(int(size) * int(count) * _KIB for size, count in given)
    return {
        name: (Workspace(configured if given else _default_bytes(index), _PRODUCTS), *of_lt)
        for name, index in devices.items()
    }


def _default_bytes(index: int) -> int:
    return _LARGE_BYTES if torch.cuda.get_device_capability(index)[0] in _LARGE_ON else _DEFAULT_BYTES


def _lt_shares() -> bool:
    said = os.environ.get("TORCH_CUBLASLT_UNIFIED_WORKSPACE")
    return {"0": False, "1": True}.get(said or "", TORCH >= LT_SHARES_SINCE)


def _lt_bytes() -> int:
    said = os.environ.get("CUBLASLT_WORKSPACE_SIZE", "")
    return int(said) * _KIB if said.isdecimal() else LT_WORKSPACE_BYTES


def with_workspaces(recording: Recording, kinds: Mapping[str, Sequence[Workspace]]) -> Recording:
    """The recording with marks for the blocks that can only be such workspaces, by the name of the GPU.

    A matrix product allocates its result first; what it allocates afterwards, in exactly a workspace's size, and does
    not free itself, is the workspace of its thread and stream. A thread whose products allocate none has one that is
    older. What was asked for is known from the allocator's history and, of older blocks, from its snapshot; without
    them the block's own size stands for it.
    """
    recording = replace(recording, strings=tuple(dict.fromkeys((*recording.strings, WORKSPACE))))
    events, operators = recording.events, _operators(recording)
    named = {kind.products for found in kinds.values() for kind in found}
    inside = {products: _products(recording, products)[events.scope] for products in named}
    marks = [recording.marks]
    for number, device in enumerate(recording.devices):
        for kind in kinds.get(device.name, ()):
            product = inside[kind.products]
            mine = (events.device == number) & (product >= 0)
            made = _made(recording, np.where(mine, product, UNKNOWN), kind.size)
            needy = mine & (product == operators) & (events.size > 0) & kind.is_certain
            older = recording.seeds.take(_older(recording, number, kind.size, product[needy], product[made]))
            marks.append(_marks(recording, older, np.zeros(len(older), dtype=np.int64)))
            marks.append(_marks(recording, events.take(made), events.time_ns[made]))
    return replace(recording, marks=Marks.concatenate(marks))


def _operators(recording: Recording) -> Integers:
    """The scope in which each event happened, source lines apart: a dense product itself allocates its result.

    A product of sparse matrices, which is cuSPARSE's and needs no workspace of cuBLAS, calls other operators for that.
    """
    scope, kinds = recording.events.scope, np.append(recording.scopes.kind, UNKNOWN)
    parents = np.append(recording.scopes.parent, NO_SCOPE)
    return np.where(kinds[scope] == ScopeKind.PYTHON_FRAME, parents[scope], scope)


def _older(recording: Recording, device: int, wanted: int, products: Integers, making: Integers) -> Integers:
    """Rows of the seeds that have a workspace's size and that nothing else names.

    cuBLAS's default is so odd that it speaks for itself. Others, such as 32 MiB, do not, as many a tensor has them:
    such blocks are workspaces where they are no more than the threads that must have brought one.

    Args:
        recording: with these blocks as seeds.
        device: the GPU's number.
        wanted: a workspace's size in bytes.
        products: scopes of the matrix products that allocated on the GPU and need one.
        making: those that made a workspace.
    """
    seeds, marks, threads = recording.seeds, recording.marks, recording.scopes.thread
    named = marks.address[marks.device == device]
    found = (seeds.device == device) & (seeds.requested == wanted) & ~np.isin(seeds.address, named)
    brought = np.setdiff1d(threads[products], threads[making])
    rows = np.flatnonzero(found)
    return rows if wanted == _DEFAULT_BYTES or len(rows) <= len(brought) else rows[:0]


def _made(recording: Recording, product: Integers, wanted: int) -> Integers:
    """Rows of the events in which a matrix product made a block after its result that it kept; -1 is no product."""
    events = recording.events
    rows: list[int] = []
    seen: set[int] = set()
    mine = product >= 0
    freed = {(int(product[row]), int(events.address[row])) for row in np.flatnonzero(mine & (events.size < 0))}
    asked = np.where(events.requested == UNKNOWN, events.size, events.requested)
    for row in np.flatnonzero(mine & (events.size > 0)).tolist():
        scope, address = int(product[row]), int(events.address[row])
        if scope in seen and asked[row] == wanted and (scope, address) not in freed:
            rows.append(row)
        seen.add(scope)
    return np.array(rows, dtype=np.int64)


def _marks(recording: Recording, found: Events | Seeds, times: Integers) -> Marks:
    """Marks that say from these times (ns) on that blocks are workspaces."""
    name = recording.strings.index(WORKSPACE)
    columns = (times, found.address, found.size, found.device)
    return Marks.from_rows(
        [
            (moment, address, MarkKind.LIBRARY_WORKSPACE, name, 0, size, device)
            for moment, address, size, device in zip(*(column.tolist() for column in columns), strict=True)
        ]
    )


def _products(recording: Recording, operators: Sequence[str]) -> Integers:
    """For each scope the one of these operators that it is or lies in, -1 for none; the last place is "no scope"."""
    scopes = recording.scopes
    found = np.full(len(scopes) + 1, -1, dtype=np.int64)
    names = {number for number, text in enumerate(recording.strings) if text in operators}
    columns = zip(scopes.parent.tolist(), scopes.kind.tolist(), scopes.name.tolist(), strict=True)
    for row, (parent, kind, name) in enumerate(columns):  # parents stand before their children
        is_product = kind == ScopeKind.OPERATOR and name in names
        found[row] = row if is_product else found[parent]
    return found
