"""Modules as horizontal bars: parameters, activations kept for backward, gradients and optimizer state of each."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from vramscope.ledger.categories import Category
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.module_tree import ModuleFigures, ModuleNode, module_tree
from vramscope.views.pictures.fills import fill_of
from vramscope.views.pictures.words import add_titles, clipped, drawable
from vramscope.views.terminal.modules import pattern_of
from vramscope.views.text import Scale, category_label

_MOST_BARS = 15
_LONGEST_NAME = 42
_FIGURES = {
    Category.PARAMETERS: "parameter_bytes",
    Category.OPTIMIZER_STATE: "optimizer_state_bytes",
    Category.GRADIENTS: "gradient_bytes",
    Category.ACTIVATIONS: "retained_bytes",
}


def draw_modules(comparison: Comparison, figure: Figure) -> None:
    """Draw the modules of the training pass, or of the last one, that hold most; the others in one bar."""
    name = _main(comparison)
    nodes = module_tree(comparison.passes[name])
    add_titles(figure, comparison, f"modules of the {name} pass, each without its children")
    shown = _bars(nodes)
    scale = Scale.fitting(max((_total(figures) for _, figures in shown), default=1))
    axes = figure.subplots()
    _draw(axes, shown, scale)
    axes.set_xlabel(f"{scale.unit}; activations are those kept for backward")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=len(_FIGURES), frameon=False, fontsize=9)


def has_modules(comparison: Comparison) -> bool:
    """Whether there is anything to draw."""
    return bool(_bars(module_tree(comparison.passes[_main(comparison)])))


def _main(comparison: Comparison) -> str:
    return "training" if "training" in comparison.ledgers else list(comparison.ledgers)[-1]


def _bars(nodes: Sequence[ModuleNode]) -> list[tuple[str, ModuleFigures]]:
    """A bar for each module, or for modules of one type whose paths differ only in numbers, the largest first."""
    groups: dict[tuple[str, str], list[ModuleNode]] = {}
    for node in nodes:
        if _total(node.own):
            groups.setdefault((pattern_of(node.path), node.type), []).append(node)
    bars = [(_label(*key, members), _sum(members)) for key, members in groups.items()]
    bars.sort(key=lambda bar: -_total(bar[1]))
    rest = bars[_MOST_BARS:]
    others = (
        [(f"{len(rest)} other{'s' if len(rest) > 1 else ''}", sum((figures for _, figures in rest), ModuleFigures()))]
        if rest
        else []
    )
    return bars[:_MOST_BARS] + others


def _label(pattern: str, kind: str, members: Sequence[ModuleNode]) -> str:
    if len(members) > 1:
        return f"{clipped(drawable(pattern), _LONGEST_NAME)} {drawable(kind)} x{len(members)}"
    return clipped(drawable(members[0].path), _LONGEST_NAME) if members[0].path else "(the model itself)"


def _sum(members: Sequence[ModuleNode]) -> ModuleFigures:
    return sum((node.own for node in members), ModuleFigures())


def _total(figures: ModuleFigures) -> int:
    return sum(vars(figures).values())


def _draw(axes: Axes, bars: Sequence[tuple[str, ModuleFigures]], scale: Scale) -> None:
    places = range(len(bars))
    left = [0.0] * len(bars)
    for category, figure in _FIGURES.items():
        widths = [scale.value(getattr(figures, figure)) for _, figures in bars]
        if any(widths):
            axes.barh(places, widths, left=left, lw=0, label=category_label(category), **fill_of(category))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (_, figures) in zip(places, bars, strict=True):
        axes.annotate(
            scale.text(_total(figures)),
            (left[place], place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(list(places), [name for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(left, default=0) * 1.14 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
