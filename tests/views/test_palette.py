"""Colours that everyone can tell apart."""

from itertools import combinations

import numpy as np
import pytest

from vramscope.ledger.categories import Category
from vramscope.views.palette import PAINTS, STACK_ORDER

# What a person without one kind of cone sees of linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based
# Model for Simulation of Color Vision Deficiency", 2009, severity 1.0.
VISIONS = {
    "full": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
PLAIN = [category for category, paint in PAINTS.items() if not paint.hatch]


def linear(colour: str) -> np.ndarray:
    """sRGB to linear light (IEC 61966-2-1)."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lightness(colour: str, vision: str = "full") -> float:
    """CIE L* of a colour."""
    seen = np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1)
    luminance = float(seen @ np.array([0.2126, 0.7152, 0.0722]))
    return 116 * float(np.cbrt(luminance)) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def test_every_category_has_a_paint() -> None:
    assert set(PAINTS) == set(STACK_ORDER) == set(Category)


def test_paints_differ() -> None:
    assert len({(paint.colour, paint.hatch) for paint in PAINTS.values()}) == len(PAINTS)
    hatches = [paint.hatch for paint in PAINTS.values() if paint.hatch]
    assert len(set(hatches)) == len(hatches)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("one", "other"), list(combinations(PLAIN, 2)))
def test_plain_paints_differ_in_lightness(one: Category, other: Category, vision: str) -> None:
    least = 14.5 if vision == "full" else 10
    assert abs(lightness(PAINTS[one].colour, vision) - lightness(PAINTS[other].colour, vision)) >= least


@pytest.mark.parametrize("category", [category for category in PAINTS if PAINTS[category].hatch])
def test_a_hatching_can_be_seen(category: Category) -> None:
    paint = PAINTS[category]
    assert abs(lightness(paint.colour) - lightness(paint.ink)) >= 20
