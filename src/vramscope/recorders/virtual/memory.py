"""Births and deaths of fake storages, put on the profiler's clock as they happen."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import _enable_record_function
from torch._C._profiler import _RecordFunctionFast

from vramscope.recorders.labels import address_of, plain_tensors
from vramscope.recorders.stamps import StampKind, label

_SCRATCH_BASE = 1 << 60
"""Made-up addresses of scratch begin here, above every address a process has."""
_NOTHING = 0
_NUMBER_BYTES = 8


class VirtualEvent(NamedTuple):
    """What stamp number k of kind VIRTUAL stands for.

    ``size`` is negative for a free. ``replaces`` is the address of a real block whose place this one takes, or 0: a
    tensor made from Python's numbers is real before it becomes fake.
    """

    address: int
    size: int
    replaces: int = _NOTHING


class VirtualMemory:
    """Watches storages from the moment they first leave an operator until nothing refers to them.

    A storage's end is told by a weak reference, at the moment at which real memory would be freed: the last reference
    goes in the same C++ or Python statement.
    """

    def __init__(self) -> None:
        self.events: list[VirtualEvent] = []
        self._stamp = _RecordFunctionFast(label(StampKind.VIRTUAL))
        self._hidden = _RecordFunctionFast(label(StampKind.HIDDEN))
        self._alive: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self._elsewhere: set[int] = set()
        self._numbers_elsewhere = False
        self._held_back: list[VirtualEvent] | None = None
        self._scratch = _SCRATCH_BASE
        self.workspaces: list[tuple[int, int]] = []
        """Address and bytes of every library workspace."""
        self._newest = _NOTHING

    @contextmanager
    def hide(self) -> Iterator[None]:
        """Keep what fake tensors do inside themselves out of the recording: real allocations and operators."""
        if self._held_back is not None:
            yield
            return
        self._held_back = []
        self._hidden.__enter__()
        _enable_record_function(False)
        try:
            yield
        finally:
            _enable_record_function(True)
            self._hidden.__exit__(None, None, None)
            held_back, self._held_back = self._held_back, None
            for event in held_back:
                self._note(event)

    def see(self, value: Any, replaces: int = _NOTHING) -> None:
        """Note the birth of every storage in an operator's result that was not there before."""
        if isinstance(value, Tensor):
            for part in plain_tensors(value):
                if part.device.type == "meta":  # the program's own meta tensors take no memory for real either
                    continue
                self._see_storage(part.untyped_storage(), replaces)
        elif isinstance(value, list | tuple):
            for item in value:
                self.see(item)

    def resized(self, storage: torch.UntypedStorage) -> None:
        """Note a storage's new size, unless a fake tensor's own work changed it; with nothing left it has ended."""
        if self._held_back is not None:
            return
        if storage.nbytes():
            self._see_storage(storage, _NOTHING)
        elif storage.device.type == "meta":
            self._end(storage._cdata)

    def pass_through(self, sizes: Sequence[int], *, before: int = 0) -> None:
        """Scratch that no tensor holds: blocks made one after another, then ended in reverse order as C++ would.

        A block of ``before`` bytes is there when the first of them is made, and ends right after that.
        """
        first = self._scratch_block(before)
        blocks = []
        for size in sizes:
            blocks.append((self._scratch_block(size), size))
            self._end_scratch(first, before)
            first = _NOTHING
        for address, size in reversed(blocks):
            self._end_scratch(address, size)

    def _end_scratch(self, address: int, size: int) -> None:
        if address:
            self._note(VirtualEvent(address, -size))

    def library_workspace(self, size: int) -> None:
        """A block that a library takes and keeps."""
        self.workspaces.append((self._scratch_block(size), size))

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Leave out numbers that are born meanwhile, unless they are moved here; larger tensors may be on their way."""
        self._numbers_elsewhere = True
        try:
            yield
        finally:
            self._numbers_elsewhere = False

    def ignore(self, tensor: Tensor) -> None:
        """Leave a tensor's storage out of the recording, unless it is moved here."""
        self._ignore_storage(tensor.untyped_storage())

    def leaves_out(self, tensor: Tensor) -> bool:
        """Whether a tensor's storage is left out of the recording."""
        return address_of(tensor.untyped_storage()) in self._elsewhere

    def _ignore_storage(self, storage: torch.UntypedStorage) -> None:
        address = address_of(storage)
        self._elsewhere.add(address)
        self._alive[address] = (weakref.ref(storage, lambda _: self._forget(address)), storage.nbytes())

    def _forget(self, address: int) -> None:
        if address in self._elsewhere:
            self._elsewhere.remove(address)
            self._alive.pop(address, None)

    def move_here(self, tensors: Iterable[Tensor]) -> None:
        """Note the birth of every storage that was not there before, or was ignored, as when a model is moved."""
        for part in (part for tensor in tensors for part in plain_tensors(tensor)):
            self._forget(address_of(part.untyped_storage()))
            self.see(part)

    def _scratch_block(self, size: int) -> int:
        if size <= 0:
            return _NOTHING
        self._scratch += size
        self._note(VirtualEvent(self._scratch, size))
        return self._scratch

    def is_newest(self, tensor: Tensor) -> bool:
        """Whether nothing was born since this tensor's storage."""
        return address_of(tensor.untyped_storage()) == self._newest

    def close(self) -> None:
        """Watch nothing any more."""
        self._alive.clear()
        self._elsewhere.clear()

    def _see_storage(self, storage: torch.UntypedStorage, replaces: int) -> None:
        address = address_of(storage)
        if not address or storage.device.type != "meta":
            return
        known = self._alive.get(address)
        size = storage.nbytes()
        if known is not None:
            if known[1] == size or address in self._elsewhere:
                return
            self._note(VirtualEvent(address, -known[1]))  # resized in place
        elif self._numbers_elsewhere and size <= _NUMBER_BYTES:
            self._ignore_storage(storage)
            return
        self._alive[address] = (weakref.ref(storage, lambda _: self._end(address)), size)
        self._newest = address
        self._note(VirtualEvent(address, size, replaces))

    def _end(self, address: int) -> None:
        known = self._alive.pop(address, None)
        if known is not None:
            self._note(VirtualEvent(address, -known[1]))

    def _note(self, event: VirtualEvent) -> None:
        if self._held_back is not None:
            self._held_back.append(event)
            return
        with self._stamp:
            self.events.append(event)
