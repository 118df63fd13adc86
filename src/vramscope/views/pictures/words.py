"""Text in pictures: titles that tell the result, and names that any font can show."""

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vramscope.ledger.comparison import Comparison
from vramscope.names import visible
from vramscope.views.text import extent_words, window_words

_LEFT, _BELOW_TITLES = 0.012, 0.89
"""Where titles begin, and where the rest of the figure ends, as shares of its width and height."""
_LONGEST_TITLE, _LONGEST_SUBTITLE = 70, 128
"""Characters that fit into the narrowest picture."""


def add_titles(figure: Figure, comparison: Comparison, what: str) -> None:
    """The result as a headline, and below it what is shown and of which workload; the rest of the figure lies below."""
    workload = comparison.workload
    name = drawable(str(workload.get("name") or workload.get("target") or "recording"))
    ratio = comparison.peak_ratio
    result = "" if ratio is None else f": training needs {ratio:.1f}x the memory of inference"
    headline = clipped(name, _LONGEST_TITLE - len(result)) + result
    figure.text(_LEFT, 0.985, headline, va="top", fontweight="bold", fontsize=13)
    subtitle = clipped(" · ".join([what, *_facts(comparison)]), _LONGEST_SUBTITLE)
    figure.text(_LEFT, 0.925, subtitle, va="top", fontsize=9, color="#555555")
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, _BELOW_TITLES))


def extents(comparison: Comparison) -> str:
    """What the figures of the passes are of."""
    return " or ".join(dict.fromkeys(extent_words(comparison, summary) for summary in comparison.passes.values()))


def _facts(comparison: Comparison) -> list[str]:
    workload = comparison.workload
    facts = [f"{key} {workload[key]}" for key in ("batch", "seq") if workload.get(key)]
    facts += [drawable(str(workload[key])) for key in ("dtype", "device", "optimizer") if workload.get(key)]
    facts += [window_words(comparison)] if comparison.window else []
    return [*facts, *(["PREDICTED, not measured"] if comparison.predicted else [])]


def clipped(text: str, length: int) -> str:
    """A text of at most so many characters, its middle left out."""
    if len(text) <= length:
        return text
    kept = (length - 1) // 2
    return f"{text[:kept]}…{text[-kept:]}"


def drawable(name: str) -> str:
    """A name without what a person could not see or the picture's font lacks: both are escaped."""
    font = get_font(findfont(FontProperties()))
    return "".join(
        character if font.get_char_index(ord(character)) else character.encode("unicode_escape").decode("ascii")
        for character in visible(name)
    )
