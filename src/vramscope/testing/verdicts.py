"""Whether a test stays within its limits, and what to say where it does not."""

from collections.abc import Iterator, Sequence

from vramscope.ledger.categories import Category
from vramscope.ledger.thresholds import Figure, Threshold
from vramscope.testing.figures import Sizes, TestFigures
from vramscope.testing.limits import LeakLimit, MemoryLimit
from vramscope.units import format_size
from vramscope.views.verdicts import exact

_MOST_PARTS = 6
_NO_SUBMODULE = "(no submodule)"
"""What ran in no submodule: in a model itself, or in none."""


def judge_memory(limit: MemoryLimit, figures: TestFigures) -> str | None:
    """What is wrong, None where nothing is."""
    category = limit.category
    used = figures.peak_bytes if category is None else figures.category_peaks[category]
    if used <= limit.size_bytes:
        return None
    what = "in all" if category is None else f"of {category.replace('_', ' ')}"
    words = (
        f"the test held {exact(used)} {what} on {figures.device}, {exact(used - limit.size_bytes)} more than "
        f"limit_vram allows: {exact(limit.size_bytes)}"
    )
    if category is None:
        return "\n".join([words, *_breakdown(figures)])
    return f"{words}\n  by module at that moment: {_parts(_shown(figures.category_modules.get(category, {})))}"


def doubt_memory(limit: MemoryLimit, figures: TestFigures) -> str | None:
    """Why a limit on a category that holds may mean little: nothing is known of the test's models.

    None where it fails, or holds whatever is unattributed, or where models are known: then what they have has its
    category, and the rest is the test's own.
    """
    category = limit.category
    if category is None or figures.category_peaks[category] > limit.size_bytes:
        return None
    if figures.category_peaks[Category.PARAMETERS]:
        return None
    possible = figures.possible_peaks[category]
    if possible <= limit.size_bytes:
        return None
    name = category.replace("_", " ")
    return (
        f"the limit of {exact(limit.size_bytes)} on {name} may be passed unseen: of {name} the test held "
        f"{exact(figures.category_peaks[category])} on {figures.device}, and {exact(possible)} with what is "
        "unattributed. A model is known once it is called, parameters also once an optimizer is made for them"
    )


def judge_leaks(limit: LeakLimit, figures: TestFigures) -> str | None:
    """What is wrong, None where nothing is."""
    if figures.leaked_bytes <= limit.size_bytes:
        return None
    words = (
        f"{exact(figures.leaked_bytes)} that the test allocated on {figures.device} are still there after it, "
        f"{exact(figures.leaked_bytes - limit.size_bytes)} more than limit_vram_leaks allows: "
        f"{exact(limit.size_bytes)}"
    )
    return "\n".join([words, f"  left: {_parts(figures.leaked_by_category)}"])


def judge_growth(threshold: Threshold, before: TestFigures, after: TestFigures) -> str | None:
    """What grew too much since the baseline, None where nothing did."""
    old, new = _figure(threshold, before), _figure(threshold, after)
    allowed = threshold.allowed_bytes(old)
    if new <= allowed:
        return None
    name = threshold.name.replace("_", " ") if threshold.figure is not Figure.MODULE else f"module {threshold.name!r}"
    words = (
        f"{name} grew from {exact(old)} to {exact(new)} since the baseline, more than {exact(allowed)} "
        f"(--vramscope-fail-over {threshold.text})"
    )
    return "\n".join([words, *_grown(before.module_peaks, after.module_peaks), *_breakdown(after)])


def _figure(threshold: Threshold, figures: TestFigures) -> int:
    if threshold.figure is Figure.PEAK:
        return figures.peak_bytes
    sizes = figures.category_peaks if threshold.figure is Figure.CATEGORY else figures.module_peaks
    return sizes.get(threshold.name, 0)


def _grown(before: Sizes, after: Sizes) -> Iterator[str]:
    """The modules that grew, without those that merely contain one that grew as much."""
    growth = {path: size - before.get(path, 0) for path, size in after.items() if size > before.get(path, 0)}
    told = {
        path: size
        for path, size in growth.items()
        if not any(other != path and _is_below(other, path) and growth[other] >= size for other in growth)
    }
    root = "all together" if any({*before, *after}) else _NO_SUBMODULE
    for path, size in sorted(told.items(), key=lambda item: (-item[1], item[0]))[:_MOST_PARTS]:
        now = f"{exact(before.get(path, 0))} to {exact(after[path])}"
        yield f"  {f'module {path!r}' if path else root}: +{format_size(size)} ({now})"


def _is_below(path: str, above: str) -> bool:
    return not above or path.startswith(f"{above}.")


def _breakdown(figures: TestFigures) -> Sequence[str]:
    return [f"  at the peak: {_parts(figures.by_category)}", f"  by module: {_parts(_shown(figures.modules))}"]


def _shown(modules: Sizes) -> Sizes:
    """Modules by names for people."""
    return {path or _NO_SUBMODULE: size for path, size in modules.items()}


def _parts(sizes: Sizes) -> str:
    """The largest parts, and what the others sum to."""
    ranked = sorted(((size, name) for name, size in sizes.items() if size), reverse=True)
    words = [f"{name} {format_size(size)}" for size, name in ranked[:_MOST_PARTS]]
    rest = ranked[_MOST_PARTS:]
    return ", ".join([*words, *([f"{len(rest)} others {format_size(sum(size for size, _ in rest))}"] if rest else [])])
