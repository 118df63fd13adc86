"""The colours of the categories and phases, the same in every view.

Two plain fills differ by at least 15 in lightness (CIE L*), so that greyscale and colour-blind readers tell them apart;
every other category has a hatching of its own.
"""

from dataclasses import dataclass

from vramscope.ledger.categories import Category


@dataclass(frozen=True)
class Paint:
    """A fill colour, and a hatching (in matplotlib's notation, empty for none) in the colour ``ink`` over it."""

    colour: str
    hatch: str = ""
    ink: str = "#ffffff"


PAINTS = {
    Category.PARAMETERS: Paint("#1d3461"),
    Category.BUFFERS: Paint("#9dbfe3", "||", "#5f86b3"),
    Category.OPTIMIZER_STATE: Paint("#8a79c0"),
    Category.INPUTS: Paint("#f3e6a8"),
    Category.GRADIENTS: Paint("#a63c16"),
    Category.ACTIVATIONS: Paint("#52bfa8"),
    Category.ACTIVATION_GRADIENTS: Paint("#fbd49a", "///", "#b9772a"),
    Category.OPTIMIZER_TEMPORARIES: Paint("#eadcf6", "\\\\\\", "#8a79c0"),
    Category.WORKSPACE: Paint("#8a8a8a", "..", "#ffffff"),
    Category.COMMUNICATION: Paint("#c9c0a8", "--", "#7d745c"),
    Category.UNATTRIBUTED: Paint("#000000"),
}
STACK_ORDER = tuple(PAINTS)
"""From the bottom of a stack to its top: what lives longest first."""
PHASE_COLOURS = {"build": "#d0d0d0", "forward": "#a9cbe8", "backward": "#f1c9a0", "optimizer": "#cfc2e4"}
OTHER_PHASE = "#d8d8d8"
DARK = {Category.PARAMETERS: "#6d8fd1", Category.UNATTRIBUTED: "#ffffff", Category.GRADIENTS: "#cf5a30"}
"""Colours that would drown on a dark page, made lighter."""
