"""What one test used, in figures; and their JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from vramscope.errors import RecordingError
from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import CATEGORIES, Category, Flags
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.module_tree import paths_above

Sizes = Mapping[str, int]
_SIZES = ("by_category", "category_peaks", "modules", "module_peaks", "leaked_by_category")
_MOST_MODULES = 2000


@dataclass(frozen=True)
class TestFigures:
    """Bytes of what a test itself allocated on one device; what was there before it does not count.

    ``by_category`` and ``modules`` are at the peak and sum to it. ``category_peaks`` are each category's own fullest
    moment, ``category_modules`` who held it then, ``module_peaks`` each module's with everything below it.
    """

    __test__ = False  # pytest collects classes by their names

    device: str
    peak_bytes: int
    leaked_bytes: int
    by_category: Sizes
    category_peaks: Sizes
    modules: Sizes
    module_peaks: Sizes
    leaked_by_category: Sizes
    category_modules: Mapping[str, Sizes] = field(default_factory=dict)
    """Of the categories that held anything; a baseline's are not read again."""
    possible_peaks: Sizes = field(default_factory=dict)
    """Each category's fullest moment, were all that is unattributed its own; a baseline's are not read again."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """The figures that `to_json` wrote.

        Raises:
            RecordingError: it did not.
        """
        numbers = ("peak_bytes", "leaked_bytes")
        if (
            not isinstance(document, dict)
            or not isinstance(document.get("device"), str)
            or not all(_is_size(document.get(name)) for name in numbers)
            or not all(_is_sizes(document.get(name)) for name in _SIZES)
        ):
            raise RecordingError("the figures of a test are damaged")
        return cls(document["device"], *(document[name] for name in (*numbers, *_SIZES)))


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and _is_size(v) for k, v in value.items())


def figures_of(ledger: Ledger, device: str) -> TestFigures:
    """The figures of a test's recording on one of its devices."""
    names = [known.name for known in ledger.recording.devices]
    number = names.index(device)
    born = (ledger.blocks.birth > BEFORE) & (ledger.blocks.device == number)
    top = ledger.peak_of(born, device=number)
    fullest = {category: ledger.peak_of(born & ledger.is_category(category), device=number) for category in CATEGORIES}
    unknown = born & ledger.is_category(Category.UNATTRIBUTED)
    at_peak, at_end = born & ledger.blocks.alive_after(top.event), born & ledger.blocks.alive_after(len(ledger) - 1)
    return TestFigures(
        device=device,
        peak_bytes=top.bytes,
        leaked_bytes=int(ledger.blocks.size[at_end].sum()),
        by_category=_named(ledger.sum_by_category(at_peak)),
        category_peaks={str(category): moment.bytes for category, moment in fullest.items()},
        modules=ledger.sum_by_module(at_peak),
        module_peaks=_module_peaks(ledger, born, number),
        leaked_by_category=_named(ledger.sum_by_category(at_end)),
        category_modules={
            str(category): ledger.sum_by_module(
                born & ledger.is_category(category) & ledger.blocks.alive_after(moment.event)
            )
            for category, moment in fullest.items()
            if moment.bytes
        },
        possible_peaks={
            str(category): ledger.peak_of(born & ledger.is_category(category) | unknown, device=number).bytes
            for category in CATEGORIES
        },
    )


def _named(composition: Mapping[Category, int]) -> Sizes:
    return {str(category): size for category, size in composition.items()}


def _module_peaks(ledger: Ledger, born: Flags, device: int) -> Sizes:
    """The most that each module and everything below it ever held; of the first modules where there are too many."""
    used = [ledger.module_paths[number] for number in np.unique(ledger.module[born]).tolist()]
    paths = dict.fromkeys(above for path in used for above in (path, *paths_above(path)))
    peaks = {}
    for path in list(paths)[:_MOST_MODULES]:
        inside = [not path or other == path or other.startswith(f"{path}.") for other in ledger.module_paths]
        chosen = born & np.array(inside, dtype=np.bool_)[ledger.module]
        peaks[path] = ledger.peak_of(chosen, device=device).bytes
    return peaks
