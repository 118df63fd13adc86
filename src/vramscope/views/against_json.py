"""The JSON view of a prediction beside a measurement; every size an integer of bytes."""

from dataclasses import asdict
from typing import Any

from vramscope.ledger.against import Against, Figure


def against_document(against: Against) -> dict[str, Any]:
    """One pass."""
    predicted, measured = against.allocations
    return {
        "peak": _figure(against.peak),
        "reserved": None if against.reserved is None else _figure(against.reserved),
        "by_category": {category: _figure(figure) for category, figure in against.by_category.items()},
        "peaks_at": dict(zip(("predicted", "measured"), map(asdict, against.peaks_at), strict=True)),
        "categories_known": against.categories_known,
        "allocations": {"predicted": predicted, "measured": measured, "matching": against.matching},
        "first_difference": None if against.parting is None else asdict(against.parting),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {**asdict(figure), "difference_bytes": figure.difference_bytes}
