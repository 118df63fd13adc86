"""A second model of expandable segments, for comparison: one map of bytes in use and one of pages per range.

A range is a list of [start, stop) in use and a set of mapped pages; what is free, and how far it could grow, is read
off both anew at every call. Written from the rules in PyTorch's CUDACachingAllocator.cpp.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from vramscope.allocator import rules
from vramscope.allocator.settings import AllocatorSettings


@dataclass
class Range:
    """One address range: offsets in use, and numbers of mapped pages."""

    base: int
    page: int
    size: int
    used: dict[int, int] = field(default_factory=dict)
    pages: set[int] = field(default_factory=set)

    def stretches(self) -> list[tuple[int, int, bool]]:
        """(start, stop, mapped) of everything not in use, cut where memory begins or ends, by address."""
        edges = {0, self.size}
        for start, stop in self.used.items():
            edges |= {start, stop}
        for page in self.pages:
            edges |= {page * self.page, (page + 1) * self.page}
        found: list[tuple[int, int, bool]] = []
        for start, stop in pairwise(sorted(edges)):
            if any(low <= start < high for low, high in self.used.items()):
                continue
            mapped = start // self.page in self.pages
            if found and found[-1][1] == start and found[-1][2] is mapped:
                found[-1] = (found[-1][0], stop, mapped)
            else:
                found.append((start, stop, mapped))
        return found


@dataclass
class BrutePages:
    settings: AllocatorSettings
    capacity: int | None
    first: int
    room: int
    ranges: dict[tuple[bool, int], list[Range]] = field(default_factory=dict)
    retries: int = 0

    def every(self) -> list[Range]:
        return [part for parts in self.ranges.values() for part in parts]

    @property
    def reserved(self) -> int:
        return sum(len(part.pages) * part.page for part in self.every())

    @property
    def allocated(self) -> int:
        return sum(stop - start for part in self.every() for start, stop in part.used.items())

    def malloc(self, size: int, stream: int) -> int | None:
        size = rules.round_request(size, self.settings)
        key = (rules.is_small(size), stream)
        found = self.cached(key, size)
        if found is None:
            found = self.grow(key, size)
            if found is None:
                self.empty_cache()
                self.retries += 1
                found = self.grow(key, size)
            if found is None:
                return None
        part, start = found
        part.used[start] = start + size
        return part.base + start

    def cached(self, key: tuple[bool, int], size: int) -> tuple[Range, int] | None:
        """The smallest free stretch that fits, unless a larger one can grow less far."""
        free = []
        for part in self.ranges.get(key, []):
            stretches = part.stretches()
            for index, (start, stop, mapped) in enumerate(stretches):
                behind = stretches[index + 1] if index + 1 < len(stretches) else None
                grows = behind[1] - behind[0] if behind and behind[0] == stop and not behind[2] else 0
                if mapped:
                    free.append((stop - start, part.base + start, stop - start + grows, part, start))
        fitting = sorted(entry for entry in free if entry[0] >= size)
        if not fitting:
            return None
        chosen = fitting.pop(0)
        while fitting and fitting[0][2] < chosen[2]:
            chosen = fitting.pop(0)
        return chosen[3], chosen[4]

    def grow(self, key: tuple[bool, int], size: int) -> tuple[Range, int] | None:
        """Map pages one stretch after another where the lowest unmapped one has room, with what is free before it."""
        part, start = self.candidate(key, size)
        stop = start
        for low, high, mapped in [entry for entry in part.stretches() if entry[0] >= start]:
            if stop - start >= size:
                break
            stop = high
            if mapped:
                continue
            wanted = min(-(-(size - (low - start)) // part.page) * part.page, high - low)
            if self.capacity is not None and self.reserved + wanted > self.capacity:
                return None
            part.pages |= set(range(low // part.page, (low + wanted) // part.page))
            stop = low + wanted
        return part, start

    def candidate(self, key: tuple[bool, int], size: int) -> tuple[Range, int]:
        for part in sorted(self.ranges.get(key, []), key=lambda part: part.base):
            stretches = part.stretches()
            for index, (start, stop, mapped) in enumerate(stretches):
                if mapped:
                    continue
                first = index - 1 if index and stretches[index - 1][1] == start else index
                if self.joined(stretches, first) >= size:
                    return part, stretches[first][0]
                assert stop > start
        page = rules.page_size(key[0], self.settings)
        part = Range(self.first, page, self.room // page * page)
        self.first += self.room
        self.ranges.setdefault(key, []).append(part)
        return part, 0

    def joined(self, stretches: list[tuple[int, int, bool]], first: int) -> int:
        """Bytes from a stretch on up to the next one in use."""
        total, at = 0, stretches[first][0]
        for start, stop, _ in stretches[first:]:
            if start != at:
                break
            total, at = total + stop - start, stop
        return total

    def free(self, address: int) -> None:
        for part in self.every():
            if part.base <= address < part.base + part.size:
                del part.used[address - part.base]

    def empty_cache(self) -> None:
        """Unmap every page without a byte in use; a range that loses its last one is given up."""
        for parts in self.ranges.values():
            for part in list(parts):
                busy: set[int] = set()
                for start, stop in part.used.items():
                    busy |= set(range(start // part.page, -(-stop // part.page)))
                returned = part.pages - busy
                part.pages &= busy
                if returned and not part.pages:
                    parts.remove(part)
