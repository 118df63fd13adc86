"""A second model of the allocator, for comparison: a list of bytes in use, searched from end to end at every call.

It shares nothing with the simulator but the settings: no sorted lists, no links between blocks. Written from the rules
in PyTorch's CUDACachingAllocator.cpp for ordinary segments.
"""

from dataclasses import dataclass, field

from vramscope.allocator.settings import AllocatorSettings

MIB = 1024 * 1024


@dataclass
class Piece:
    """A stretch of a segment; ``stamp`` is the count of searches of its pool when it was last put in the cache."""

    segment: int
    start: int
    size: int
    used: bool = False
    stamp: int = 0


@dataclass
class BruteForce:
    settings: AllocatorSettings
    capacity: int | None
    allowed: int | None
    first: int
    pieces: list[Piece] = field(default_factory=list)
    kind: dict[int, tuple[bool, int]] = field(default_factory=dict)  # segment: (small, stream)
    searches: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    retries: int = 0

    @property
    def reserved(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def allocated(self) -> int:
        return sum(piece.size for piece in self.pieces if piece.used)

    def rounded(self, size: int) -> int:
        table = self.settings.roundup_power2_divisions
        if size >= 512 and table is not None:
            power = 1
            while power * 2 <= size:
                power *= 2
            entry = 0
            while entry < 15 and power >= 2 ** (20 + entry + 1):
                entry += 1
            if table[entry] > 1 and size > 512 * table[entry]:
                step = power // table[entry]
                return next(power + i * step for i in range(table[entry] + 1) if power + i * step >= size)
        return max(512, (size + 511) // 512 * 512)

    def malloc(self, size: int, stream: int) -> int | None:
        """The address, None if there is no memory."""
        size, limit = self.rounded(size), self.settings.max_split_size or 2**62
        small = size <= MIB
        if self.collecting:
            self.searches[small] += 1
        fitting = [piece for piece in self.cached(small, stream) if piece.size >= size]
        if fitting:
            best = min(fitting, key=lambda piece: (piece.size, piece.start))
            oversize = best.size >= limit if size < limit else best.size >= size + self.settings.max_non_split_rounding
            if not oversize:
                return self.take(best, size, small, limit)
        return self.fresh(size, small, stream, limit)

    @property
    def collecting(self) -> bool:
        return self.allowed is not None and self.settings.garbage_collection_threshold > 0

    def cached(self, small: bool, stream: int | None = None) -> list[Piece]:
        return [
            piece
            for piece in self.pieces
            if not piece.used and self.kind[piece.segment][0] is small and stream in (None, self.kind[piece.segment][1])
        ]

    def whole(self, small: bool, stream: int | None = None) -> list[Piece]:
        counts = {key: sum(piece.segment == key for piece in self.pieces) for key in self.kind}
        return [piece for piece in self.cached(small, stream) if counts[piece.segment] == 1]

    def take(self, piece: Piece, size: int, small: bool, limit: int) -> int:
        rest = piece.size - size
        if rest >= 512 if small else (size < limit and rest > MIB):
            remainder = Piece(piece.segment, piece.start + size, rest, stamp=self.searches[small])
            self.pieces.append(remainder)
            piece.size = size
        piece.used = True
        return piece.start

    def fresh(self, size: int, small: bool, stream: int, limit: int) -> int | None:
        segment = 2 * MIB if small else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
        if MIB < size < 10 * MIB:
            segment = self.settings.large_segment_size
        if self.collecting:
            self.collect()
        if not self.room(segment):
            # too little released is no reason to ask again before the rest is released too
            enough = limit < 2**62 and self.release_oversize(max(size, limit), small, stream, limit)
            if not (enough and self.room(segment)):
                self.empty_cache()
                self.retries += 1
        if not self.room(segment):
            return None
        address, self.first = self.first, self.first + segment
        self.kind[address] = (small, stream)
        self.pieces.append(Piece(address, address, segment))
        return self.take(self.pieces[-1], size, small, limit)

    def room(self, size: int) -> bool:
        return all(bound is None or self.reserved + size <= bound for bound in (self.capacity, self.allowed))

    def release_oversize(self, wanted: int, small: bool, stream: int, limit: int) -> bool:
        """Either the smallest that is enough alone, or the largest ones until they are; whether they are."""
        found = sorted(self.cached(small, stream), key=lambda piece: (piece.size, piece.start))
        enough = [piece for piece in found if piece.size >= wanted]
        if enough:
            self.drop(enough[0])
            return True
        gone = 0
        for piece in reversed(found):
            if gone >= wanted or piece.size < limit:
                break
            gone += piece.size
            self.drop(piece)
        return gone >= wanted

    def collect(self) -> None:
        assert self.allowed is not None
        excess = self.reserved - int(self.settings.garbage_collection_threshold * self.allowed)
        gone = 0
        while gone < excess:
            ages = {piece.start: self.searches[False] - piece.stamp for piece in self.whole(False)}
            old = [piece for piece in self.whole(False) if ages[piece.start] * len(ages) >= sum(ages.values())]
            if not old:
                return
            gone += sum(piece.size for piece in old)
            for piece in old:
                self.drop(piece)

    def drop(self, piece: Piece) -> None:
        self.pieces.remove(piece)
        del self.kind[piece.segment]

    def empty_cache(self) -> None:
        for small in (False, True):
            for piece in self.whole(small):
                self.drop(piece)

    def free(self, address: int) -> None:
        piece = next(piece for piece in self.pieces if piece.used and piece.start == address)
        piece.used = False
        for other in [p for p in self.pieces if p.segment == piece.segment and not p.used and p is not piece]:
            if other.start + other.size == piece.start or piece.start + piece.size == other.start:
                piece.start, piece.size = min(piece.start, other.start), piece.size + other.size
                self.pieces.remove(other)
        piece.stamp = self.searches[self.kind[piece.segment][0]]
