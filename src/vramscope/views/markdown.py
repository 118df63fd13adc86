"""A diff as Markdown, for a comment on a pull request."""

import re
from collections.abc import Iterator, Sequence

from vramscope.ledger.diff import Change, Diff, Kind, PassDiff
from vramscope.names import visible
from vramscope.views.text import Scale
from vramscope.views.verdicts import percent_words, verdict_words

EXTENSION = "md"
_ACTIVE = re.compile(r"[\\`*_{}\[\]#!|~$@&<>\"]|:(?! )")
"""What Markdown or HTML could take for more than a character; a colon where an address or an emoji could be meant."""
_DETAILS = {Kind.MODULE: "Modules that changed most", Kind.OPERATOR: "Operators that changed most"}


def diff_markdown(diff: Diff, *, top: int = 10) -> str:
    """The diff as GitHub's Markdown, at most ``top`` rows in the tables of modules and operators."""
    return "\n".join(_lines(diff, top)) + "\n"


def _lines(diff: Diff, top: int) -> Iterator[str]:
    yield "## Memory"
    for verdict in diff.verdicts:
        sign = "❌ **Regression**" if verdict.is_regression else "✅ Within the limit"
        yield from ("", f"{sign}: {plain(verdict_words(verdict))}")
    for warning in diff.warnings:
        yield from ("", f"⚠️ {plain(warning)}")
    for name, old, new in diff.differences:
        yield from ("", f"⚠️ not alike: {plain(name)} {plain(old)} before, {plain(new)} after")
    for part in diff.passes:
        yield from _pass_lines(part, top)


def _pass_lines(part: PassDiff, top: int) -> Iterator[str]:
    peak = part.of(Kind.PEAK)[0]
    scale = Scale.fitting(max(peak.before_bytes, peak.after_bytes))
    yield from ("", f"### {plain(part.name)}", "")
    rows = [change for change in part.of(Kind.CATEGORY) if change.before_bytes or change.after_bytes]
    yield from _table("at the peak", rows, scale)
    yield _row("**total**", peak, scale)
    for kind, title in _DETAILS.items():
        changed = part.changed(kind)
        if changed:
            yield from ("", f"<details><summary>{title}</summary>", "")
            yield from _table(str(kind), changed[:top], scale)
            yield from ("", *([f"and {len(changed) - top} more", ""] if changed[top:] else []), "</details>")


def _table(title: str, rows: Sequence[Change], scale: Scale) -> Iterator[str]:
    yield f"| {title} | before | after | change | |"
    yield "|:--|--:|--:|--:|--:|"
    for change in rows:
        yield _row(_name(change), change, scale)


def _name(change: Change) -> str:
    if change.kind in (Kind.MODULE, Kind.OPERATOR):
        return f"<code>{plain(change.name)}</code>" if change.name else "(the model itself)"
    return plain(change.name.replace("_", " "))


def _row(name: str, change: Change, scale: Scale) -> str:
    scale = scale.for_row(change.before_bytes, change.after_bytes)
    figures = (scale.text(change.before_bytes), scale.text(change.after_bytes), scale.change(change.growth_bytes))
    return f"| {' | '.join([name, *figures, percent_words(change.before_bytes, change.after_bytes)])} |"


def plain(text: str) -> str:
    """A text that neither Markdown nor HTML takes for anything else."""
    pieces = (visible(text[start : start + 100]) for start in range(0, len(text), 100))
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", "".join(pieces))
