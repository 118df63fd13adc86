"""Where the driver places new memory: made-up addresses, or those a recording tells."""

from collections import deque
from typing import Protocol

FIRST_ADDRESS = 0x7F00_0000_0000
"""Made-up addresses begin here: like a driver's, and above those of most recordings."""
RESERVATION = 2**40
"""Bytes of address space of one expandable segment; PyTorch takes 9/8 of the GPU's memory, far less than this."""


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
    """Addresses that a trace announces; made-up ones where it announces none.

    Args:
        barriers: addresses that a reservation which begins below them must not reach.
    """

    def __init__(self, barriers: list[int]) -> None:
        """Nothing is announced yet."""
        super().__init__()
        self._barriers = sorted(barriers)
        self.announced: deque[tuple[int, int]] = deque()
        self._announced_range: int | None = None

    def announce_segment(self, address: int, size: int) -> None:
        """The next segment of ``size`` bytes lies at ``address``."""
        self.announced.append((address, size))

    def announce_range(self, address: int) -> None:
        """If a range is reserved next, it begins at ``address``; a later announcement changes nothing."""
        if self._announced_range is None:
            self._announced_range = address

    def forget(self) -> None:
        """Drop what was announced and not taken."""
        self.announced.clear()
        self._announced_range = None

    def segment(self, size: int) -> int:
        """The announced address if the size is the announced one."""
        if self.announced and self.announced[0][1] == size:
            return self.announced.popleft()[0]
        return super().segment(size)

    def reservation(self) -> tuple[int, int]:
        """The announced range, as long as it touches no other."""
        if self._announced_range is None:
            return super().reservation()
        return self.range_at(self._announced_range)

    def range_at(self, address: int) -> tuple[int, int]:
        """The range that begins at ``address`` and ends before the next barrier."""
        above = next((barrier for barrier in self._barriers if barrier > address), address + RESERVATION)
        return address, min(above - address, RESERVATION)
