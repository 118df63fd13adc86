"""Where the driver places new memory: made-up addresses, or those a recording tells."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

FIRST_ADDRESS = 0x7F00_0000_0000
"""Made-up addresses begin here: like a driver's, and above those of most recordings."""
NO_DEVICE_ADDRESS = 2**60
"""In a replay, memory whose address the trace does not tell lies from here on, where no recorded block can."""
RESERVATION = 2**40
"""Bytes of address space of one expandable segment; PyTorch takes 9/8 of the GPU's memory, far less than this."""


LEAST_RESERVATION = 2**30
"""A recorded range with less room up to the next is none: no GPU has so little memory."""


class AddressSource(Protocol):
    """Stands for the driver's choice of addresses."""

    def segment(self, size: int) -> int:
        """The address of a new segment of ``size`` bytes (``cudaMalloc``)."""
        ...

    def reservation(self) -> tuple[int, int]:
        """Address and bytes of a new range without memory (``cuMemAddressReserve``)."""
        ...


class MadeUpAddresses:
    """Rising addresses that never repeat, as a fresh process mostly sees them."""

    def __init__(self, first: int = FIRST_ADDRESS) -> None:
        """Start at ``first``."""
        self._next = first

    def segment(self, size: int) -> int:
        """The next address."""
        address, self._next = self._next, self._next + size
        return address

    def reservation(self) -> tuple[int, int]:
        """The next range."""
        return self.segment(RESERVATION), RESERVATION


class RecordedAddresses(MadeUpAddresses):
    """Addresses that a trace announces; made-up ones where it announces none, or one that is not free.

    Args:
        room: how many bytes from an address on nothing holds.
    """

    def __init__(self, room: Callable[[int], int]) -> None:
        """Nothing is announced yet."""
        super().__init__(NO_DEVICE_ADDRESS)
        self.announced: deque[tuple[int, int]] = deque()
        self._range: int | None = None
        self._room = room

    def announce_segment(self, address: int, size: int) -> None:
        """The next segment of ``size`` bytes lies at ``address``."""
        self.announced.append((address, size))

    def announce_range(self, address: int) -> None:
        """If a range is reserved next, it begins at ``address``; a later announcement changes nothing."""
        if self._range is None:
            self._range = address

    def forget(self) -> None:
        """Drop what was announced and not taken."""
        self.announced.clear()
        self._range = None

    def segment(self, size: int) -> int:
        """The announced address if the size is the announced one."""
        if self.announced and self.announced[0][1] == size:
            address = self.announced.popleft()[0]
            if self._room(address) >= size:
                return address
        return super().segment(size)

    def reservation(self) -> tuple[int, int]:
        """The announced range, as long as nothing else lies in it."""
        address, self._range = self._range, None
        size = 0 if address is None else min(self._room(address), RESERVATION)
        return (address, size) if address is not None and size >= LEAST_RESERVATION else super().reservation()
