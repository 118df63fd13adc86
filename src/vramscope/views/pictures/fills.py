"""A category's colour and hatching as matplotlib has them."""

from typing import Any

from vramscope.ledger.categories import Category
from vramscope.views.palette import PAINTS


def fill_of(category: Category) -> dict[str, Any]:
    """Keyword arguments of a matplotlib patch; the edge's colour is the hatching's."""
    paint = PAINTS[category]
    return {"facecolor": paint.colour, "hatch": paint.hatch, "edgecolor": paint.ink}
